"""Checkpoints: rotated, verified, restored in place, and never another run's."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchrl.checkpoint import GlobalRNGState
from torchrl.data import OneHot

from tests.runs.checkpoint.test_replay_files import records
from torchrl_glam.data import make_replay
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint import ReplayFiles, TrainedNetworks, checkpoints
from torchrl_glam.runs.checkpoint.checkpoints import Checkpoints, find_weights


class Counter:
    """A part with a state."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.count = state_dict["count"]


class Small:
    """A run of one layer, a replay and a counter."""

    def __init__(self, folder: Path, run_id: str = "one", keep: int = 2) -> None:
        self.layer, self.counter = nn.Linear(2, 2), Counter()
        self.replay, _ = make_replay(100, sequences=(2, 3), contexts=(1, 1))
        self.checkpoints = Checkpoints(
            folder,
            run_id,
            networks=TrainedNetworks({"actor": self.layer}, OneHot(3)),
            replay=ReplayFiles(self.replay, folder / "replay", run_id),
            random_state=GlobalRNGState(),
            parts={"counter": self.counter},
            keep=keep,
        )

    def step(self, frame: int, train_return: float | None = None) -> None:
        nn.init.constant_(self.layer.weight, frame)
        self.counter.count = frame
        self.replay.extend(records(frame, frame + 2))
        self.checkpoints.save(frame, train_return)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def draw() -> tuple[float, float, float]:
    """Draw from each of the three generators."""
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_everything_comes_back(tmp_path):
    run = Small(tmp_path)
    run.step(1)
    run.step(2)
    drawn = draw()
    other = Small(tmp_path)
    restored = other.checkpoints.restore()
    assert (restored.frame, restored.skipped) == (2, [])
    assert torch.equal(other.layer.weight, run.layer.weight)
    assert other.counter.count == 2
    assert (other.replay[:] == run.replay[:]).all()
    assert draw() == drawn


def test_a_new_run_starts_at_0(tmp_path):
    assert Small(tmp_path).checkpoints.restore().frame == 0
    assert list(tmp_path.iterdir()) == []


def test_the_newest_and_the_best_are_kept(tmp_path):
    run = Small(tmp_path)
    for frame, train_return in ((1, None), (2, 5.0), (3, 1.0), (4, 2.0), (5, None)):
        run.step(frame, train_return)
    assert names(tmp_path) == [f"checkpoint-{frame:012d}" for frame in (2, 4, 5)]
    assert find_weights(tmp_path, "best").frame == 2
    assert find_weights(tmp_path, "newest").frame == 5


def test_a_damaged_one_is_named_set_aside_and_the_one_before_used(tmp_path):
    run = Small(tmp_path)
    for frame in (1, 2, 3):
        run.step(frame)
    (damaged,) = tmp_path.glob("checkpoints/*003/components/*counter/*")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    other = Small(tmp_path)
    restored = other.checkpoints.restore()
    assert restored.frame == other.counter.count == 2
    (line,) = restored.skipped
    assert "checkpoint-000000000003 is skipped" in line
    assert "counter/state.safetensors is damaged" in line
    assert names(tmp_path) == ["checkpoint-000000000002", "rejected-checkpoint-000000000003"]
    other.step(3)  # its step comes again
    assert Small(tmp_path).checkpoints.restore().frame == 3


def test_all_damaged_ends_in_one_line_and_nothing_moves(tmp_path):
    run = Small(tmp_path)
    for frame in (1, 2):
        run.step(frame)
    for manifest in tmp_path.glob("checkpoints/*/manifest.json"):
        manifest.unlink()
    before = names(tmp_path)
    with pytest.raises(UsageError, match="cannot be resumed") as refusal:
        Small(tmp_path).checkpoints.restore()
    assert "manifest.json is missing; and 1 older)" in str(refusal.value)
    assert names(tmp_path) == before


def test_another_runs_checkpoint_is_not_taken(tmp_path):
    other = Small(tmp_path / "other", run_id="two")
    (tmp_path / "other").mkdir()
    other.step(9)
    run = Small(tmp_path / "run")
    (tmp_path / "run").mkdir()
    run.step(1)
    shutil.copytree(tmp_path / "other/checkpoints", tmp_path / "run/checkpoints", dirs_exist_ok=True)
    restored = Small(tmp_path / "run").checkpoints.restore()
    assert restored.frame == 1
    assert "it is another run's" in restored.skipped[0]


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    run = Small(tmp_path)
    run.step(1)
    half = tmp_path / "checkpoints" / ".one" / "checkpoint-000000000002"
    half.mkdir(parents=True)
    (half / "manifest.json").write_text("{")
    other = Small(tmp_path)
    assert other.checkpoints.restore().frame == 1
    other.step(2)
    assert names(tmp_path) == ["checkpoint-000000000001", "checkpoint-000000000002"]


def test_only_this_runs_own_checkpoints_ever_go(tmp_path):
    run = Small(tmp_path / "run", keep=1)
    (tmp_path / "run").mkdir()
    run.step(2)
    (tmp_path / "two").mkdir()
    Small(tmp_path / "two", run_id="two").step(1)
    folder = tmp_path / "run" / "checkpoints"
    foreign = [".git", ".two", "checkpoint-1", "checkpoint-000000000004", "checkpoint-\u00b2", "notes"]
    for name in foreign[:-1]:
        (folder / name).mkdir()
        (folder / name / "mine").touch()
    (folder / "notes").touch()
    shutil.copytree(tmp_path / "two/checkpoints/checkpoint-000000000001", folder / "checkpoint-000000000001")
    elsewhere = shutil.copytree(folder / "checkpoint-000000000002", tmp_path / "elsewhere")
    (folder / "checkpoint-000000000000").symlink_to(elsewhere)
    for frame in (3, 4, 5):
        run.step(frame)
    kept = ["checkpoint-000000000000", "checkpoint-000000000001", "checkpoint-000000000005"]
    aside = "rejected-checkpoint-000000000004"
    others = [name for name in foreign if name != "checkpoint-000000000004"]
    assert names(tmp_path / "run") == sorted([*kept, aside, *others])
    assert (folder / aside / "mine").exists()
    assert (elsewhere / "manifest.json").exists()


def test_nothing_is_removed_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".one").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        Small(tmp_path).step(1)
    assert (tmp_path / "elsewhere" / "mine").exists()


def test_a_checkpoint_that_goes_while_it_is_read_is_not_missed(tmp_path, monkeypatch):
    """Of ``keep=1``: the run that trains has written the next one before it removes it."""
    run = Small(tmp_path, keep=1)
    run.step(1, 0.0)
    read, number = checkpoints.check_sums, iter((2, 3))

    def write_meanwhile(path: Path) -> None:
        if frame := next(number, None):
            run.step(frame, float(frame))
        read(path)

    monkeypatch.setattr(checkpoints, "check_sums", write_meanwhile)
    assert find_weights(tmp_path, "newest").frame == 3
    assert find_weights(tmp_path, "best").frame == 3


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="has no weights yet"):
        find_weights(tmp_path, "newest")
    with pytest.raises(UsageError, match="choose newest or best"):
        find_weights(tmp_path, "worst")
    Small(tmp_path).step(1)
    with pytest.raises(UsageError, match="use weights=newest"):
        find_weights(tmp_path, "best")
