"""Episodes of a policy: for its score, or to be recorded."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.teachers.recording import KEYS, cut_episodes
from torchrl_glam.offline.teachers.tasks import make_task_env

MAX_STEPS = 10_000  # of an episode that is played for its score
SIDE_BY_SIDE, TOGETHER = 16, 128  # environments, and steps of each at a time, of episodes that are recorded


def play_returns(
    env: EnvBase, policy: TensorDictModuleBase, episodes: int, *, seed: int, greedy: bool = False
) -> list[float]:
    """Play whole episodes, as many environments at once as ``env`` has, and return their undiscounted returns.

    Args:
        env: of :func:`~torchrl_glam.offline.teachers.tasks.make_task_env`.
        policy: acts in it.
        episodes: how many.
        seed: of the environments, so that policies are compared on the same beginnings.
        greedy: take the most likely action instead of a sample.
    """
    env.set_seed(seed)
    kind = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    returns: list[float] = []
    while len(returns) < episodes:
        with torch.no_grad(), set_exploration_type(kind):
            played = env.rollout(MAX_STEPS, policy, break_when_any_done=False, break_when_all_done=True)
        ends = played["next", "done"].squeeze(-1).int()
        ends[:, -1] = 1  # one that goes on counts as it stands
        first = ends.argmax(1)
        returns += played["next", "episode_reward"].squeeze(-1)[torch.arange(len(first)), first].tolist()
    return returns[:episodes]


def play_episodes(
    name: str, policy: TensorDictModuleBase, steps: int, *, seed: int, greedy: bool = False
) -> list[TensorDictBase]:
    """Play whole episodes ``[t]`` with at least ``steps`` steps in all.

    Args:
        name: of the task.
        policy: acts in it.
        steps: at least this many.
        seed: of environments and actions.
        greedy: take the most likely action instead of a sample.
    """
    torch.manual_seed(seed)
    num_envs = min(SIDE_BY_SIDE, 1 + steps // 2000)  # few for few steps: what each has begun at the end is lost
    collector = Collector(
        make_task_env(name, num_envs, seed),
        policy,
        frames_per_batch=num_envs * TOGETHER,
        total_frames=-1,
        exploration_type=ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM,
        auto_register_policy_transforms=False,
    )
    batches: list[TensorDictBase] = []
    ended = torch.zeros(num_envs, dtype=torch.int64)  # steps of each environment's whole episodes
    with progress_bar(total=steps, desc="recording", unit="step") as bar:
        for batch in collector:
            times = torch.arange(1, TOGETHER + 1) + TOGETHER * len(batches)
            ended = torch.maximum(ended, (batch["next", "done"].squeeze(-1) * times).amax(1))
            batches.append(batch.select(*KEYS))
            bar.update(min(int(ended.sum()), steps) - bar.n)
            if ended.sum() >= steps:
                break
    collector.shutdown()
    return cut_episodes(torch.cat(batches, 1))
