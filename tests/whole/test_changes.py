"""The examples of docs/changes: each is applied to a copy of the repository, and its command runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = {page.stem: page.read_text() for page in sorted((ROOT / "docs" / "changes").glob("*.md"))}
QUICK = (
    "preset=debug",
    "total_frames=104",
    "training.log_every=2",
    "threads=1",
    "env.name=tests.support.games:CatchBall-v0",
    "run_dir=run",
)


def blocks(text: str, kind: str) -> list[tuple[str, str]]:
    """The code blocks of a kind: what follows it on the line that opens them, and their text."""
    return re.findall(rf"^```{kind}([^\n]*)\n(.*?)^```$", text, re.M | re.S)


def apply_hunk(path: Path, hunk: str) -> None:
    """Put a hunk in place whose unchanged and removed lines are found in the file, in one piece, exactly once."""
    lines = hunk.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    if lines[0].startswith(" class"):  # what is added goes in front of that class
        after = "".join(f"{line[1:]}\n" for line in [*lines[1:], lines[0]])
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} does not hold once:\n{before}"
    path.write_text(text.replace(before, after))


def apply(text: str, root: Path) -> set[str]:
    """Apply a page's blocks to a copy of the repository; return the files that it touches."""
    touched = set()
    for language in ("python", "yaml"):
        for where, content in blocks(text, language):
            name = where.split("file=")[1].strip()
            (root / name).write_text(content)
            touched.add(name)
    for _, diff in blocks(text, "diff"):
        for name, hunks in re.findall(r"^--- a/(\S+)\n\+\+\+ [^\n]*\n(.*?)(?=^--- a/|\Z)", diff, re.M | re.S):
            touched.add(name)
            for hunk in hunks.split("@@\n")[1:]:
                apply_hunk(root / name, hunk)
    return touched


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_the_change_costs_what_the_page_says_and_runs(page, tmp_path):
    text = PAGES[page]
    for folder in ("torchrl_glam", "configs", "examples", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    touched = apply(text, tmp_path)
    assert len(touched) == max(map(int, re.findall(r"\d+", text.splitlines()[0])))
    ((_, command),) = blocks(text, "bash")
    given = shlex.split(command)[1:]
    quick = [option for option in QUICK if option.split("=")[0] not in {option.split("=")[0] for option in given}]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, *given, *quick], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "result.json").exists()
    if page == "head":
        assert (tmp_path / "run" / "metrics" / "scalars" / "world_model" / "loss_occurrence.csv").exists()
