"""Train stable-baselines3's PPO, SAC or DQN with its default settings, and evaluate it as runs of GLAM are.

    python examples/baseline.py name=Pendulum-v1 algorithm=SAC total_frames=20000 out=sac.json

A baseline for environments observed as vectors: the JSON file has the returns of the evaluation's episodes, with
sampled actions; a CSV file beside it has those of the training's, each with the step at which it ended.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError, make_writable
from torchrl_glam.factory import EVALUATION_SEED, set_seeds
from torchrl_glam.machine.resources import device_name
from torchrl_glam.runs.files import write_file

ALGORITHMS = ("PPO", "SAC", "DQN")


@dataclass
class BaselineOptions:
    """Options of examples/baseline.py."""

    name: str  # a Gymnasium name
    out: str  # JSON file
    algorithm: str = "PPO"  # PPO, SAC (continuous actions) or DQN (discrete ones)
    total_frames: int = 20_000  # environment steps
    seed: int = 0
    episodes: int = 20  # of the evaluation


class Returns(BaseCallback):
    """Keeps the step and the return of each episode that ends in training."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ended.append((self.num_timesteps, float(info["episode"]["r"])))
        return True


@small_command(BaselineOptions)
def main(options: BaselineOptions) -> None:
    """Train, evaluate and write the file."""
    if options.algorithm not in ALGORITHMS:
        raise UsageError(f"algorithm={options.algorithm} does not exist: choose one of {', '.join(ALGORITHMS)}")
    out = make_writable("out", Path(options.out))
    torch.set_num_threads(1)
    set_seeds(options.seed)
    env, returns, began = Monitor(gymnasium.make(options.name)), Returns(), time.monotonic()
    try:
        model: Any = getattr(stable_baselines3, options.algorithm)("MlpPolicy", env, seed=options.seed, device="cpu")
    except AssertionError as error:  # of a kind of action that it does not know
        raise UsageError(f"{options.algorithm} cannot learn {options.name}: {str(error).splitlines()[0]}") from error
    model.learn(options.total_frames, callback=returns)
    trained = time.monotonic() - began
    test = Monitor(gymnasium.make(options.name))
    test.reset(seed=options.seed + EVALUATION_SEED)
    found: Any = evaluate_policy(
        model, test, options.episodes, deterministic=False, return_episode_rewards=True, warn=False
    )
    evaluation = [float(each) for each in found[0]]
    result = {name: value for name, value in asdict(options).items() if name != "out"} | {
        "returns": evaluation,
        "mean": statistics.fmean(evaluation),
        "training_seconds": round(trained, 1),
        "device": device_name(torch.device("cpu")),
        "versions": {"stable_baselines3": stable_baselines3.__version__, "torch": torch.__version__},
    }
    curve = "".join(f"{step},{value:.6g}\n" for step, value in returns.ended)
    write_file(out.with_suffix(".csv"), curve.encode())
    write_file(out, (json.dumps(result, indent=1) + "\n").encode())
    print(f"{options.algorithm}, {options.name}, {options.total_frames} steps: mean {result['mean']:.1f} | {out}")


if __name__ == "__main__":
    main()
