"""Playing for a score."""

from __future__ import annotations

import sys

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, StepCounter, TransformedEnv
from torchrl.envs.utils import ExplorationType
from tqdm import tqdm

MAX_STEPS = 108_000 // 4  # the ALE's limit, 30 minutes of frames, at frame skip 4


def evaluate(
    env: EnvBase,
    policy: TensorDictModuleBase,
    episodes: int,
    *,
    greedy: bool = False,
    progress: bool = False,
    max_steps: int = MAX_STEPS,
) -> list[float]:
    """Play whole episodes, one after the other, and return their undiscounted returns.

    Args:
        env: a real environment with ``episode_reward`` (``RewardSum``).
        policy: acts in it; its primers are added to the environment.
        episodes: how many.
        greedy: take the most likely action instead of a sample.
        progress: show a progress bar.
        max_steps: of an episode; one that goes on is cut there, counts as it stands, and a line says so.
    """
    exploration = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    parameter = next(policy.parameters(), None)
    collector = Collector(
        TransformedEnv(env, StepCounter(max_steps, step_count_key="evaluation_steps"), auto_unwrap=False),
        policy,
        frames_per_batch=1,
        total_frames=-1,
        policy_device=None if parameter is None else parameter.device,
        env_device="cpu",
        storing_device="cpu",
        exploration_type=exploration,
        auto_register_policy_transforms=True,
    )
    returns: list[float] = []
    with tqdm(total=episodes, desc="evaluation", unit="episode", disable=not progress, file=sys.stdout) as bar:
        for step in collector:
            finished = episode_returns(step)
            returns += finished
            bar.update(len(finished))
            if (step["next", "evaluation_steps"] >= max_steps).any():
                tqdm.write(f"evaluation: an episode was cut after {max_steps} steps")
            if len(returns) >= episodes:
                break
    collector.shutdown(close_env=False)
    return returns[:episodes]


def episode_returns(batch: TensorDictBase) -> list[float]:
    """Returns of the episodes that end in a batch of real steps."""
    return batch["next", "episode_reward"][batch["next", "done"]].tolist()
