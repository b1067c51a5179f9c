"""The folder of a run: its owner, and the options that resume it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.configs import load
from tests.support.paths import ROOT
from torchrl_glam.config import GLAMConfig, Logger
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.runs.folder import RunFolder


def options(folder: Path, *overrides: str) -> GLAMConfig:
    return load("preset=debug", f"run_dir={folder}", *overrides)


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A folder with a run that was begun."""
    folder = RunFolder(options(tmp_path / "run"))
    folder.take()
    folder.release()
    return folder.path


def test_a_run_keeps_its_name(taken):
    first = json.loads((taken / "run.json").read_text())["id"]
    folder = RunFolder(options(taken))
    folder.take()
    assert folder.holds_run
    assert folder.run_id == first
    folder.release()


@pytest.mark.parametrize(
    "harmless",
    [
        "total_frames=320",
        "logger=tensorboard",
        "checkpoint.every=7",
        "evaluation.episodes=3",
        "training.log_every=5",
        "threads=2",
    ],
)
def test_options_that_change_nothing_may_differ(taken, harmless):
    RunFolder(options(taken, harmless)).release()


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (["seed=1"], "seed=0, now 1"),
        (["model_optimizer.lr=0.5"], "model_optimizer.lr=0.0001, now 0.5"),
        (["env.protocol=standard"], "env.protocol=glam, now standard"),
        (["objective=ppo"], "objective.name=glam, now ppo"),
        (["world_model.channels=[4,4,4,4]"], "world_model.channels=[8, 8, 16, 16], now [4, 4, 4, 4]"),
    ],
)
def test_other_options_are_refused_with_the_list_and_can_be_forced(taken, other, line):
    with pytest.raises(UsageError, match="holds a run with other options") as refusal:
        RunFolder(options(taken, *other))
    assert line in str(refusal.value)
    assert "resume=force" in str(refusal.value)
    folder = RunFolder(options(taken, *other, "resume=force"))
    folder.take()
    folder.release()
    RunFolder(options(taken, *other)).release()  # they are the run's now


def test_resume_false_needs_a_new_folder(taken, tmp_path):
    with pytest.raises(UsageError, match="already holds a run"):
        RunFolder(options(taken, "resume='false'"))
    RunFolder(options(tmp_path / "new", "resume='false'")).release()


def test_a_finished_run_resumes_only_for_more_steps(taken):
    (taken / "result.json").write_text(json.dumps({"total_frames": 160, "mean": 1.5}))
    with pytest.raises(Stopped, match=r"is finished: 160 steps, evaluation 1\.50"):
        RunFolder(options(taken))
    RunFolder(options(taken, "total_frames=161")).release()


HOLD = """
import sys, time
from torchrl_glam.config import GLAMConfig
from torchrl_glam.runs.folder import RunFolder

folder = RunFolder(GLAMConfig(run_dir=sys.argv[1], resume="force"))
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_at_a_time(taken):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(taken)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="in use by another process"):
            RunFolder(options(taken))
        process.kill()  # what a killed one held is free
        process.wait()
        RunFolder(options(taken)).release()


def test_a_refused_folder_is_free_again(taken):
    with pytest.raises(UsageError):
        RunFolder(options(taken, "seed=1"))
    RunFolder(replace(options(taken), logger=Logger.tensorboard)).release()
