"""Uniformly random play as a run of 0 frames: real episodes, counted once, which the report compares others with."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial

import pytest

from tests.support.games import CatchBall
from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "random_play.py"
CATCH = "env.name=tests.support.games:CatchBall-v0"


@pytest.fixture
def play(monkeypatch, capsys):
    """A function that runs the script here, and returns what it prints."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def test_forty_episodes_are_played_at_random_and_kept_as_a_run(play, tmp_path):
    assert "over 40 episodes (protocol glam)" in play(CATCH, f"run_dir={tmp_path}/catch")
    result = json.loads((tmp_path / "catch/result.json").read_text())
    wanted = {"env": "tests.support.games:CatchBall-v0", "preset": "random", "total_frames": 0, "seed": 0, "cut": 0}
    assert wanted.items() <= result.items()
    assert result["lengths"] == [60] * 40
    assert 0.3 < result["mean"] < 2.3  # of 1.3; a ball is caught by chance, one in four
    assert result["mean"] < CatchBall.BALLS
    assert len(set(result["returns"])) > 2
    assert "seconds" not in result
    assert "is finished" in play(CATCH, f"run_dir={tmp_path}/catch")


def test_a_seed_says_all(play, tmp_path):
    returns = []
    for name, seed in {"one": 3, "same": 3, "other": 4}.items():
        play(CATCH, f"run_dir={tmp_path}/{name}", f"seed={seed}", "evaluation.episodes=8")
        returns.append(json.loads((tmp_path / name / "result.json").read_text())["returns"])
    assert returns[0] == returns[1] != returns[2]


def test_bad_options_are_one_line_and_leave_no_folder(refused, tmp_path):
    assert "evaluation.episodes=0" in refused(CATCH, "evaluation.episodes=0", f"run_dir={tmp_path}/bad")
    for group in ("preset=cpu", "objective=ppo"):
        assert "cannot be chosen for this command: leave it out" in refused(CATCH, group, f"run_dir={tmp_path}/bad")
    assert "did you mean ALE/Pong-v5" in refused("env.name=ALE/Pog-v5", f"run_dir={tmp_path}/bad")
    assert not (tmp_path / "bad").exists()
