"""It learns: the proof that signs, alignment and agent are right. Minutes each, so run by name:

pytest -m slow tests/whole/test_learning.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.support.games import CatchBall
from tests.support.paths import EXAMPLES, ROOT


def random_return(episodes: int = 200) -> float:
    """Mean return of uniform actions on CatchBall."""
    game = gymnasium.make("tests.support.games:CatchBall-v0")
    game.action_space.seed(0)
    returns = []
    for seed in range(episodes):
        game.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            _, reward, ended, _, _ = game.step(game.action_space.sample())
            total += float(reward)
        returns.append(total)
    return float(np.mean(returns))


def train_and_evaluate(folder: Path, *options: str) -> float:
    """Mean return of 40 episodes after a whole run by the example."""
    command = [sys.executable, str(EXAMPLES / "glam_atari.py"), "env.name=tests.support.games:CatchBall-v0"]
    command += ["preset=small", f"run_dir={folder / 'run'}", "evaluation.episodes=40", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    return json.loads((folder / "run" / "result.json").read_text())["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_agent_learns_to_catch(seed, tmp_path):
    assert random_return() < 0.4 * CatchBall.BALLS
    assert train_and_evaluate(tmp_path, f"seed={seed}") >= 0.9 * CatchBall.BALLS


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["a2c", "ppo", "dreamer_v3"])
def test_other_objectives_learn_to_catch(objective, tmp_path):
    assert train_and_evaluate(tmp_path, f"objective={objective}") >= 0.8 * CatchBall.BALLS


@pytest.mark.slow
def test_continuous_actions_are_learnt(tmp_path):
    """The paddle is steered: random play catches 1.4 of the five balls."""
    assert train_and_evaluate(tmp_path, "env.name=tests.support.games:SteerBall-v0") >= 0.7 * CatchBall.BALLS
