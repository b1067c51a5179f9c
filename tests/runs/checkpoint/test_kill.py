"""SIGKILL at random moments, inside checkpoint writing too; the same command until the run ends. Nothing may differ."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.support.killed_runs import CATCH, TINY, differences, outcome, run, start, wait_until

SELDOM = "checkpoint.every=1000000"  # the uninterrupted run writes one checkpoint, at its end
OBSERVED = {
    "a camera and joints": ["env.name=tests.support.sensors:Arm-v0"],
    "a vector": ["env.name=CartPole-v1", "world_model.marks_starts=true"],
}
KINDS = {
    "catch": [CATCH],
    "pong with sticky actions": ["env.name=ALE/Pong-v5"],
    "continuous actions": ["env.name=tests.support.games:SteerBall-v0"],
    "ppo": [CATCH, "objective=ppo"],
    "discrete_sac": [CATCH, "objective=discrete_sac", "objective.capacity=200"],
    "dreamer_v3": [CATCH, "objective=dreamer_v3"],
    **OBSERVED,
    "two environments": [CATCH, "env.num_envs=2"],
    "two Pongs": ["env.name=ALE/Pong-v5", "env.num_envs=2"],
    "overlap": ["env.name=ALE/Pong-v5", "training.overlap=true"],
    "all at once": [
        "env.name=ALE/Pong-v5",
        "env.num_envs=2",
        "objective=ppo",
        "dynamics=storm",
        "logger=tensorboard",
    ],
    "a ring that overwrites": [CATCH, "replay.capacity=60"],
    "started from the batch": [CATCH, "imagination.starts=batch"],
}


def kill_until_done(folder: Path, options: list[str], kills: int, span: float, seed: int) -> dict[str, int]:
    """Run the same command until it ends, killed ``kills`` times, each within ``span`` seconds after it began to train.

    Every fourth kill comes during the start instead. Returns how many kills there were, and how many of them left a
    half-written checkpoint, chunk or file behind.
    """
    chance, log = random.Random(seed), folder.with_suffix(".log")
    count = {"kills": 0, "while writing": 0}
    while True:
        process = start(folder, *options, log=log)
        starting = count["kills"] % 4 == 3
        if not starting:
            wait_until(lambda: " parameters | " in log.read_text(), process)
        try:
            last = count["kills"] == kills
            status = process.wait(3000 if last else chance.uniform(0, 6) if starting else chance.uniform(0, span))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            assert not last, "it does not end"
            count["kills"] += 1
            count["while writing"] += bool([*folder.glob("checkpoints/.*"), *folder.rglob(".*.part")])
        else:
            assert status == 0, log.read_text()
            return count


@pytest.mark.parametrize("kind", ["catch", *(pytest.param(kind, marks=pytest.mark.long) for kind in OBSERVED)])
def test_a_run_that_is_killed_three_times_ends_as_if_it_had_not_been(kind, tmp_path):
    options = [*TINY, *KINDS[kind], "total_frames=90", "checkpoint.every=2"]
    alone = start(tmp_path / "alone", *options, SELDOM, log=tmp_path / "alone.log")
    count = kill_until_done(tmp_path / "killed", options, kills=3, span=2.0, seed=0)
    assert alone.wait(120) == 0, (tmp_path / "alone.log").read_text()
    assert count["kills"] == 3, "the run ended before"
    assert differences(outcome(tmp_path / "alone"), outcome(tmp_path / "killed")) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_kills_of_600_steps(kind, tmp_path):
    """Run by name, some five minutes each."""
    options = ["preset=debug", *KINDS[kind], "total_frames=600"]
    uninterrupted = run(tmp_path / "alone", *options, SELDOM)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    count = kill_until_done(tmp_path / "killed", [*options, "checkpoint.every=1"], kills=20, span=4.0, seed=len(kind))
    assert count["kills"] >= 15
    assert count["while writing"] > 0
    assert differences(outcome(tmp_path / "alone"), outcome(tmp_path / "killed")) == []
