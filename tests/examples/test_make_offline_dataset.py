"""The script that makes datasets: one teacher serves them all, and bad input is one line before anything is learned."""

from __future__ import annotations

import re
import runpy
import sys
from functools import partial

import minari
import pytest

from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "make_offline_dataset.py"
TASK = "env.name=tests.support.tasks:PayingTaskDiscrete-v0"
SMALL = [
    TASK,
    "total_frames=64",
    "snapshots=4",
    "evaluation_episodes=2",
    "reference_episodes=4",
    "ppo.n_envs=2",
    "ppo.n_steps=8",
    "ppo.batch_size=8",
    "ppo.net_arch=[8,8]",
    "medium=0.01",
    "teacher_dir=teacher",
    "root=sets",
]


@pytest.fixture
def make(monkeypatch, capsys, tmp_path):
    """A function that runs the script in a folder of its own; returns its lines, without the progress bar's."""

    def run(*options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return [line for line in re.split(r"[\r\n]+", out) if line.strip() and "%|" not in line and "?step" not in line]

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def test_one_teacher_serves_every_quality(make, tmp_path, monkeypatch):
    first, *scores, last = make(*SMALL, "quality=replay", "until=end")
    assert first == (
        "tests.support.tasks:PayingTaskDiscrete-v0: paying-task-discrete/full-replay-v0 | ppo teacher, 64 steps, "
        "training into teacher"
    )
    assert [line.partition(":")[0] for line in scores] == ["step 16", "step 32", "step 48", "step 64"]
    assert re.fullmatch(
        r"dataset paying-task-discrete/full-replay-v0 in sets: \d+ steps, \d+ episodes, mean return \d+\.\d "
        r"\(random \d+\.\d, expert \d+\.\d\)",
        last,
    )
    before = (tmp_path / "teacher/teacher.json").stat().st_mtime_ns
    first, last = make(*SMALL, "quality=expert", "steps=30", "dataset_id=mine-v1")
    assert first.endswith("64 steps, from teacher")
    assert last.startswith("dataset mine-v1 in sets: 30 steps, ")
    assert (tmp_path / "teacher/teacher.json").stat().st_mtime_ns == before
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    assert minari.load_dataset("mine-v1").total_steps == 30
    assert sorted(minari.list_local_datasets()) == ["mine-v1", "paying-task-discrete/full-replay-v0"]


def test_a_teacher_of_other_options_is_refused(make, refused, monkeypatch, tmp_path):
    make(*SMALL, "quality=expert", "steps=10")
    line = refused(*SMALL, "quality=expert", "seed=1", "dataset_id=other-v0")
    assert "the teacher in teacher_dir=teacher has seed=0, the options say 1: ask for the same" in line
    line = refused(*SMALL, "quality=expert")
    assert "dataset_id=paying-task-discrete/expert-v0 exists already in sets" in line


WRONG = {
    "unknown task": (["env.name=Hoper-v5"], ["no environment 'Hoper-v5'", "did you mean Hopper-v5"]),
    "pixels": (
        ["env.name=tests.support.games:CatchBall-v0"],
        ["CatchBall", "choose a task that observes a vector of floats"],
    ),
    "unknown quality": (["quality=best"], ["quality=best", "medium, replay, expert, mixed"]),
    "unknown option": (["qualty=medium"], ["no option qualty: did you mean quality"]),
    "a malformed id": (["dataset_id=hopper"], ["dataset_id=hopper is malformed"]),
    "a root that is none": (["root=/proc/nothing"], ["root=/proc/nothing cannot be written"]),
    "no steps": (["steps=0"], ["steps=0: give a whole number of at least 1"]),
    "the other teacher's": (["sac.gamma=1"], ["sac.gamma is read by teacher=sac only"]),
    "a folder that is no teacher": (["teacher_dir=/tmp"], ["teacher_dir=/tmp holds no finished teacher"]),
    "not the medium's": (["until=end"], ["until is read by quality=replay only"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_ends_in_one_clear_line(refused, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options, wanted = WRONG[name]
    line = refused(TASK, *options)
    assert all(part in line for part in wanted)
