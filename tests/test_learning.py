"""It learns: the proof that signs, alignment and agent are right. Minutes each, so run by name:

pytest -m slow tests/test_learning.py
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

from tests.games import CatchBall

ROOT = Path(__file__).resolve().parents[1]


def random_return(episodes: int = 200) -> float:
    """Mean return of uniform actions on CatchBall."""
    game = gymnasium.make("tests.games:CatchBall-v0")
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_agent_learns_to_catch(seed, tmp_path):
    assert random_return() < 0.4 * CatchBall.BALLS
    command = [sys.executable, str(ROOT / "examples" / "glam_atari.py"), "env.name=tests.games:CatchBall-v0"]
    command += ["preset=small", f"seed={seed}", f"run_dir={tmp_path / 'run'}", "evaluation.episodes=40"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["mean"] >= 0.9 * CatchBall.BALLS
