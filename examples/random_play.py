"""Play uniformly random actions: the score that every other one has to beat.

    python examples/random_play.py env.name=ALE/Boxing-v5
    glam-report runs/ALE/Boxing-v5

The report compares the runs beside this one with its episodes. Options are those of glam_atari.py; env, seed,
evaluation.episodes and run_dir have an effect.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import time
from dataclasses import replace
from pathlib import Path

import torch
from tensordict.nn import TensorDictModule

from torchrl_glam import factory
from torchrl_glam.command.cli import hydra_command
from torchrl_glam.config import GLAMConfig
from torchrl_glam.config.checks import check_run
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.resources import device_name
from torchrl_glam.runs.folder import RunFolder
from torchrl_glam.runs.summary import describe_result, make_score
from torchrl_glam.training.evaluation import play_episodes

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def check(config: GLAMConfig, given: list[str]) -> None:
    """Refuse values that are out of range, but allow 0 frames."""
    if config.evaluation.episodes == 0:
        raise UsageError("evaluation.episodes=0: give a whole number of at least 1")
    check_run(replace(config, total_frames=1))


@hydra_command(CONFIGS, "random_play", GLAMConfig, check)
def main(config: GLAMConfig) -> None:
    """Play whole episodes by uniform actions, and write the folder of a run of 0 frames."""
    factory.set_seeds(config.seed)
    env = factory.make_evaluation_env(config)
    folder = RunFolder(config)
    try:
        policy = TensorDictModule(env.action_spec.rand, in_keys=[], out_keys=["action"])
        episodes, began = factory.num_evaluation_episodes(config), time.monotonic()
        played = play_episodes(env, policy, episodes, progress=True)
        seconds, device = time.monotonic() - began, device_name(torch.device("cpu"))
        result = describe_result(config, played, total_frames=0, device=device, evaluation_seconds=seconds)
        folder.take()
        folder.write_result(result)
        print(f"random play: {make_score(config, played)} | {folder.path}")
    finally:
        folder.release()


if __name__ == "__main__":
    main()
