"""The page of faults names each script's functions, and says of the versions here what they say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from torchrl_glam.runs.provenance import package_version

FAULTS = ROOT / "docs" / "faults"
PAGE = (ROOT / "docs" / "torchrl_facts.md").read_text()
ROWS = {match[1]: match[2].split(" | ") for match in re.finditer(r"^\| `(\w+)`: .+? \| (.+) \|$", PAGE, re.MULTILINE)}


@pytest.mark.parametrize("script", ["in_torchrl", "in_tensordict", "in_torch"])
def test_the_page_names_each_function(script):
    section = PAGE.partition(f"## `{script}.py`")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    tree = ast.parse((FAULTS / f"{script}.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert named == [function.name for function in functions]
    assert all(ast.get_docstring(function) for function in functions)


@pytest.mark.long
@pytest.mark.skipif(package_version("torchrl") != "0.14.1", reason="the page's columns are of torchrl 0.14.1")
@pytest.mark.parametrize("script", ["in_torchrl", "in_tensordict"])
def test_the_faults_are_still_there(script):
    """Where one is mended, take away its workaround and its row."""
    done = subprocess.run([sys.executable, FAULTS / f"{script}.py"], capture_output=True, text=True, check=True)
    verdicts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert verdicts
    for name, verdict in verdicts.items():
        assert verdict == ROWS[name][1], name
