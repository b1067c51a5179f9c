"""The evaluation of a trained model: target returns, and the returns that it achieves."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import Compose, EnvBase, RewardSum, SerialEnv, StepCounter, TargetReturn, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.dataset import OfflineDataset, normalised_score
from torchrl_glam.training.evaluation import MAX_STEPS


@dataclass(frozen=True)
class Evaluation:
    """The returns achieved at one target.

    Args:
        target_return: undiscounted, in the rewards' own unit.
        fraction: its place between the return of a random policy (0) and the best of the dataset (1).
        returns: of the episodes, undiscounted.
        normalised: their mean where a random policy has 0 and the expert 100, as in D4RL (arXiv 2004.07219, Sec. 5);
            ``None`` without references.
    """

    target_return: float
    fraction: float
    returns: list[float]
    normalised: float | None = None

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``result.json``."""
        return {**asdict(self), "mean": self.mean}

    def __str__(self) -> str:
        """Return a line for people."""
        spread = statistics.pstdev(self.returns)
        normalised = "" if self.normalised is None else f", normalised {self.normalised:.1f}"
        return f"target {self.target_return:.4g}: {self.mean:.4g}, standard deviation {spread:.3g}{normalised}"


def evaluate_targets(
    dataset: OfflineDataset,
    make_env: Callable[[], EnvBase],
    policy: TensorDictModuleBase,
    fractions: Iterable[float],
    *,
    episodes: int,
    num_envs: int = 10,
    seed: int = 0,
    progress: bool = False,
) -> list[Evaluation]:
    """Ask for returns between that of a random policy and the best of the dataset, the lowest first.

    Args:
        dataset: has the references and the best return.
        make_env, policy, episodes, num_envs, seed: as for :func:`play_targets`; each target has the same starts.
        fractions: 0 is a random policy's return, or the dataset's worst where that is unknown; 1 is its best.
        progress: show a progress bar.
    """
    returns = dataset.episode_returns()
    low = returns.min().item() if dataset.random_score is None else dataset.random_score
    evaluations, fractions = [], sorted(fractions)
    with progress_bar(total=len(fractions), desc="evaluation", unit="target", disable=not progress) as bar:
        for fraction in fractions:
            target_return = low + fraction * (returns.max().item() - low)
            achieved = play_targets(make_env, policy, target_return, episodes, num_envs=num_envs, seed=seed)
            normalised = normalised_score(dataset, statistics.fmean(achieved))
            evaluations.append(Evaluation(target_return, fraction, achieved, normalised))
            bar.update()
    return evaluations


def make_target_env(make_env: Callable[[], EnvBase], num_envs: int, target_return: float) -> TransformedEnv:
    """Make environments [num_envs] that play side by side, each asked for ``target_return``.

    Beside ``observation`` they have ``return_to_go``, the part of the target that remains, and ``step_count``.

    Args:
        make_env: makes one, as :func:`~torchrl_glam.offline.environment.make_decision_env` does.
        num_envs: number of environments.
        target_return: undiscounted.
    """
    return TransformedEnv(
        SerialEnv(num_envs, make_env),
        Compose(
            StepCounter(MAX_STEPS),
            RewardSum(),
            TargetReturn(target_return, mode="reduce", out_keys=["return_to_go"]),
        ),
    )


@torch.no_grad()
def play_targets(
    make_env: Callable[[], EnvBase],
    policy: TensorDictModuleBase,
    target_return: float,
    episodes: int,
    *,
    num_envs: int = 10,
    seed: int = 0,
) -> list[float]:
    """Play episodes greedily under a target return, and return the returns that they achieve.

    Each environment plays one episode, so that short ones do not count more often. Starts do not depend on
    ``num_envs``, and torch's own generators are left unchanged.

    Args:
        make_env: makes one environment.
        policy: such as :class:`~torchrl_glam.offline.DecisionPolicy`; its primer is added to the environment.
        target_return: undiscounted.
        episodes: number of episodes.
        num_envs: the most environments side by side.
        seed: of the first episode's start; the others' follow from it.
    """
    returns: list[float] = []
    with set_exploration_type(ExplorationType.DETERMINISTIC), kept_generators():
        while len(returns) < episodes:
            env = make_target_env(make_env, min(num_envs, episodes - len(returns)), target_return)
            if (make_primer := getattr(policy, "make_tensordict_primer", None)) is not None:
                env = env.append_transform(make_primer())
            seed = env.set_seed(seed)  # the next seed after the last one's
            returns += _play_one_each(env, policy).tolist()
            env.close()
    return returns


def _play_one_each(env: EnvBase, policy: TensorDictModuleBase) -> Tensor:
    """Return the return of the first episode of each environment, [num_envs]."""
    step: TensorDictBase = env.reset()
    device = next((parameter.device for parameter in policy.parameters()), torch.device("cpu"))
    achieved = torch.zeros(env.batch_size)
    playing = torch.ones(env.batch_size, dtype=torch.bool)
    while playing.any():
        step = policy(step.to(device)).to("cpu")
        step, following = env.step_and_maybe_reset(step)
        ended = step["next", "done"].squeeze(-1) & playing
        achieved = torch.where(ended, step["next", "episode_reward"].squeeze(-1), achieved)
        playing &= ~ended
        step = following
    return achieved
