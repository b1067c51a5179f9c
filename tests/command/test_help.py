"""The page of ``--help``, and Ctrl-C before a command has begun."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.paths import CONFIGS, EXAMPLES, ROOT
from torchrl_glam.command.cli import command_line, hydra_command
from torchrl_glam.config import GLAMConfig
from torchrl_glam.offline.config import OfflineConfig


def show(command, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    command()
    return capsys.readouterr().out


def test_the_page_of_a_run(monkeypatch, capsys):
    def main(config):
        """Train."""

    page = show(command_line(CONFIGS, "glam_atari")(main), monkeypatch, capsys, "seed=3", "--help")
    lines = page.splitlines()
    assert lines[:3] == ["Train.", "", "script.py key=value ..."]
    assert (
        "  objective=glam       a2c|discrete_sac|dreamer_v3|glam|ppo|reinforce, or package.module.Class of yours"
        in lines
    )
    assert sum(line.startswith("  paper ") for line in lines) == 1
    for option in ("env.name=ALE/Pong-v5", "seed=0", "device=auto (auto|cpu|cuda)", "run_dir=", "init_from=null"):
        assert any(line.startswith(f"  {option}") for line in lines), option
    assert "hydra/" not in page
    assert len(lines) < 50
    assert show(command_line(CONFIGS, "glam_atari")(main), monkeypatch, capsys, "-h") == page


def test_the_page_of_another_command_has_its_own_options(monkeypatch, capsys):
    command = hydra_command(CONFIGS / "offline", "mambadm_offline", OfflineConfig, pytest.fail)(pytest.fail)
    page = show(command, monkeypatch, capsys, "--help")
    assert "  dataset=... (wanted)" in page
    assert "  model=mambadm  bc|dmamba|dt|mambadm\n" in page
    assert "objective=glam" not in page
    assert "--check" not in page
    assert GLAMConfig.__module__ not in page


def test_ctrl_c_while_a_script_imports_is_one_line():
    code = "import torchrl_glam.command.interrupt; raise KeyboardInterrupt"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.stderr == "interrupted\n"
    assert process.returncode != 0
    bug = subprocess.run([sys.executable, "-c", f"{code[:-17]}KeyError(3)"], cwd=ROOT, capture_output=True, text=True)
    assert bug.stderr.splitlines()[-1] == "KeyError: 3"


COMMANDS = [path for path in sorted(EXAMPLES.glob("*.py")) if "torchrl_glam.command." in path.read_text()]


@pytest.mark.parametrize("script", COMMANDS, ids=[path.stem for path in COMMANDS])
def test_every_command_imports_that_first(script):
    imports = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.unparse(imports[1]) == "import torchrl_glam.command.interrupt"  # after __future__
