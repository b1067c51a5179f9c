"""The record of what ran says what is so, and never stands in a run's way."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from torchrl_glam.config import EnvConfig, GLAMConfig, Protocol
from torchrl_glam.runs import provenance
from torchrl_glam.runs.provenance import describe_run, git_state, options_hash
from torchrl_glam.runs.summary import config_hash


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one tracked file, ``package/module.py``."""
    folder = tmp_path / "checkout"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("one = 1\n")
    git(folder, "init", "--quiet", "--initial-branch=work")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def put_git_on_path(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``git`` a shell script."""
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_record_is_json_and_tells_versions_command_seed_and_machine():
    record = json.loads(json.dumps(describe_run(GLAMConfig(seed=7))))
    assert record["seed"] == 7
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert None not in record["versions"].values()
    assert record["command"] == shlex.join(sys.orig_argv)
    assert record["started"].endswith("+00:00")
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "surely-not-installed"))
    assert provenance.package_versions()["surely-not-installed"] is None


def test_a_nightly_build_has_a_version(monkeypatch):
    installed = {"torchrl-nightly": "2026.10.27", "tensordict": "0.14.3", "tensordict-nightly": "2026.10.26"}

    def version(name):
        try:
            return installed[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(provenance, "version", version)
    assert provenance.package_version("torchrl") == "2026.10.27"
    assert provenance.package_version("tensordict") == "0.14.3"


def test_a_checkout_is_clean_then_dirty_and_names_its_branch(checkout):
    module = checkout / "package" / "module.py"
    clean = {"commit": git(checkout, "rev-parse", "HEAD"), "branch": "work", "dirty": False}
    (checkout / "notes.txt").write_text("not tracked: no change of the code")
    assert git_state(module) == clean
    module.write_text("one = 2\n")
    assert git_state(module) == {**clean, "dirty": True}


def test_a_detached_head_has_no_branch(checkout):
    git(checkout, "checkout", "--quiet", "--detach")
    state = git_state(checkout / "package" / "module.py")
    assert state is not None
    assert state["branch"] is None
    assert len(state["commit"]) == 40


def test_a_package_installed_inside_somebody_elses_checkout_is_not_of_that_commit(checkout):
    installed = checkout / "venv" / "module.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert git_state(installed) is None


def test_no_checkout_no_state(tmp_path):
    assert git_state(tmp_path / "module.py") is None
    assert git_state(tmp_path / "gone" / "module.py") is None


def test_the_repository_that_a_hook_names_is_not_taken_for_ours(checkout, tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    state = git_state(checkout / "package" / "module.py")
    assert state is not None
    assert state["branch"] == "work"


GITS = {
    "missing": None,
    "dubious ownership": 'echo "fatal: detected dubious ownership in repository" >&2; exit 128',
    "hangs": "exec sleep 60",
    "prints no text": r"printf '\377\376'",
}


@pytest.mark.parametrize("name", GITS)
def test_git_that_does_not_serve_raises_nothing(name, checkout, tmp_path, monkeypatch):
    script = GITS[name]
    if script is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        put_git_on_path(tmp_path / "bin", script, monkeypatch)
    monkeypatch.setattr(provenance, "TIMEOUT", 0.2)
    state = git_state(checkout / "package" / "module.py")
    assert state is None or name == "prints no text"


def test_a_working_folder_that_is_gone_raises_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert describe_run(GLAMConfig())["folder"] is None


def test_the_hash_sees_values_and_not_their_order():
    options = {"seed": 0, "env": {"name": "ALE/Pong-v5", "protocol": Protocol.glam}, "channels": [8, 8], "limit": None}
    known = options_hash(options)
    assert known == options_hash(dict(reversed(options.items())))
    assert known == options_hash({**options, "env": {"protocol": "glam", "name": "ALE/Pong-v5"}})
    assert known == "4488ae04cc8d"  # the same on every machine and in every version: checkpoints hold it
    for changed in ({"seed": 1}, {"env": {"name": "ALE/Pong-v5"}}, {"channels": [8, 9]}, {"limit": 0}, {"more": 1}):
        assert options_hash({**options, **changed}) != known


def test_the_hash_of_a_run_is_that_of_the_same_run_on_another_game_and_seed():
    known = config_hash(GLAMConfig())
    same = {"seed": 3, "env": EnvConfig(name="ALE/Boxing-v5"), "run_dir": "elsewhere", "threads": 2}
    assert config_hash(GLAMConfig(**same)) == known
    for other in ({"env": EnvConfig(protocol=Protocol.standard)}, {"ablation": "without_g"}, {"preset": "paper"}):
        assert config_hash(GLAMConfig(**other)) != known


def test_the_hash_refuses_what_has_no_fixed_text():
    with pytest.raises(TypeError, match="object"):
        options_hash({"seed": object()})
