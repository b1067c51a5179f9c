"""The baselines of stable-baselines3: evaluated as runs are, and refused in one line where they cannot learn."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial

import pytest

from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "baseline.py"


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def test_returns_are_written_beside_what_made_them(tmp_path, monkeypatch, capsys):
    out = tmp_path / "dqn.json"
    options = ["name=CartPole-v1", "algorithm=DQN", "total_frames=150", "episodes=3", "seed=4", f"out={out}"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    result = json.loads(out.read_text())
    assert {"name": "CartPole-v1", "algorithm": "DQN", "total_frames": 150, "seed": 4}.items() <= result.items()
    assert len(result["returns"]) == 3
    assert result["mean"] == pytest.approx(sum(result["returns"]) / 3)
    curve = [tuple(map(float, line.split(","))) for line in out.with_suffix(".csv").read_text().splitlines()]
    assert [step for step, _ in curve] == [sum(value for _, value in curve[: k + 1]) for k in range(len(curve))]
    assert f"mean {result['mean']:.1f} | {out}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["algorithm=TRPO"], "algorithm=TRPO does not exist: choose one of PPO, SAC, DQN"),
        (["algorithm=SAC"], "SAC cannot learn CartPole-v1"),
    ],
)
def test_what_cannot_be_learned_is_refused(refused, tmp_path, options, wanted):
    assert wanted in refused("name=CartPole-v1", f"out={tmp_path}/result.json", *options)
