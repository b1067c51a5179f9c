"""``glam``: what a wheel holds, what each command answers, and which commands the printed lines name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import EXAMPLES, ROOT
from torchrl_glam.__main__ import main
from torchrl_glam.machine.invocation import COMMANDS, other_command, this_command


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that calls ``glam`` in this process; returns what it wrote to stdout and to stderr."""

    def call_glam(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/glam", *arguments])
        main()
        return capsys.readouterr()

    return call_glam


BUILD = "from setuptools import build_meta; build_meta.build_wheel('wheel')"


def test_a_wheel_holds_the_package_the_yaml_files_and_the_loops(tmp_path):
    for folder in ("torchrl_glam", "configs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("torchrl_glam-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "glam = torchrl_glam.__main__:main" in archive.read(entry_points).decode().splitlines()
    wanted = {f"torchrl_glam/{path}" for name in ("configs", "examples") for path in list_files(ROOT / name, name)}
    wanted |= set(list_files(ROOT / "torchrl_glam", "torchrl_glam"))
    assert held == wanted
    assert "torchrl_glam/configs/offline/study/joblib.yaml" in held  # behind a link in the repository


def list_files(folder: Path, name: str) -> list[str]:
    """Return the paths of all files below a folder, links to folders followed, as if it were called ``name``."""
    found = []
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            found += list_files(path, f"{name}/{path.name}")
        elif path.is_file():
            found.append(f"{name}/{path.name}")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_answers_help_by_the_name_that_was_typed(call, name):
    out, err = call(*name.split(), "--help")
    assert f"glam {name} " in out
    assert not err


def test_the_page_has_a_line_for_each_command_and_imports_nothing_slow():
    code = "import sys; from torchrl_glam.__main__ import main; main(); sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert [line for line in lines if line.startswith("  ")][:-1] == [
        f"  {name:19}{command.line}" for name, command in COMMANDS.items()
    ]
    assert max(map(len, lines)) <= 120


def test_a_wrong_name_and_the_other_flags(call, capsys):
    assert call("--version")[0].startswith("torchrl_glam 0.")
    assert call("offline", "--help")[0] == call("--help")[0] == call()[0]
    assert (
        "_shtab_glam_offline_subparsers=(dataset import train evaluate compare memory benchmark)"
        in call("--completion", "bash")[0]
    )
    for given, line in {
        "trein": "there is no command trein: did you mean train?",
        "offline trein": "there is no command offline trein: did you mean offline train",
        "preset=debug": "there is no command preset=debug: see glam --help",
        "--completion": "--completion wants a shell: glam --completion bash|",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            call(*given.split())
        assert capsys.readouterr().err.startswith(f"error: {line}")


def test_packages_that_are_missing_are_named_with_their_extra(call, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrl_glam.examples.plot_returns", None)
    with pytest.raises(SystemExit, match="2"):
        call("plot", "runs/a")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: glam plot cannot import all it needs (")
    assert line.endswith('): pip install "torchrl_glam[report]"')


def test_lines_name_the_command_that_the_user_has(monkeypatch):
    script = f"{EXAMPLES}/glam_atari.py"
    for called, (this, other) in {
        "glam train": ("glam train", "glam offline compare"),
        "python -m torchrl_glam train": ("python -m torchrl_glam train", "python -m torchrl_glam offline compare"),
        script: (f"python {script}", f"python {EXAMPLES}/compare_offline.py"),
        "my scripts/train.py": ("python 'my scripts/train.py'", "glam offline compare"),
    }.items():
        monkeypatch.setattr(sys, "argv", [called])
        assert (this_command(), other_command("offline compare")) == (this, other)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["examples/glam_atari.py"])
    assert other_command("evaluate") == "python examples/evaluate.py"
    assert other_command("report") == "glam report"


def test_every_example_that_is_a_command_has_a_name():
    modules = {command.module.rpartition(".")[2] for command in COMMANDS.values()}
    commands = {path.stem for path in EXAMPLES.glob("*.py") if "torchrl_glam.command.interrupt" in path.read_text()}
    assert commands - modules == {"own_env"}  # to be copied
