"""Playing for a score."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, StepCounter, TransformedEnv
from torchrl.envs.utils import ExplorationType
from tqdm import tqdm

from torchrl_glam.data.replay import OBSERVATIONS
from torchrl_glam.envs.scores import game_name, human_normalised_score, reference_scores
from torchrl_glam.machine.terminal import progress_bar

MAX_STEPS = 108_000 // 4  # the ALE's limit, 30 minutes of frames, at frame skip 4


@dataclass(frozen=True)
class Episode:
    """One episode that was played: its undiscounted return, its steps, and whether it was cut while it went on."""

    episode_return: float
    length: int
    cut: bool = False


@dataclass(frozen=True)
class Score:
    """Score of an environment's episodes under a protocol; printed, a part of a line.

    Examples:
        >>> from torchrl_glam.training.evaluation import Score
        >>> print(Score("ALE/Pong-v5", "glam", [-21.0, 15.0]))
        -3.00, standard deviation 18.00 over 2 episodes (protocol glam; random -21, human 15, human-normalised 0.500)
    """

    env_name: str
    protocol: str
    returns: list[float]

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)

    @property
    def standard_deviation(self) -> float:
        """That of these episodes, not an estimate for others."""
        return statistics.pstdev(self.returns)

    @property
    def human_normalised(self) -> float | None:
        """The mean where a random policy has 0 and a human player 1; ``None`` where there are no references."""
        return human_normalised_score(self.env_name, self.mean)

    def __str__(self) -> str:
        """Mean, spread and protocol, and for the games of Atari 100k how it compares."""
        count, references = len(self.returns), ""
        game = game_name(self.env_name)
        if game and (scores := reference_scores(game)):
            normalised = f"human-normalised {self.human_normalised:.3f}"
            references = f"; random {scores.random:g}, human {scores.human:g}, {normalised}"
        return (
            f"{self.mean:.2f}, standard deviation {self.standard_deviation:.2f} over {count} "
            f"episode{'s' * (count != 1)} (protocol {self.protocol}{references})"
        )


class FirstEpisode:
    """Keeps what was observed in the first episode that it is shown, as ``on_step`` of :func:`play_episodes`.

    Args:
        most: observations kept; an episode may have more.
    """

    def __init__(self, most: int = 4500) -> None:
        self._observed: list[TensorDictBase] = []
        self._most, self._ended = most, False

    def __call__(self, step: TensorDictBase) -> None:
        """Take a record [1]."""
        if not self._ended:
            shown = [step["next"]] if self._observed else [step, step["next"]]
            self._observed += [each.select(*OBSERVATIONS, strict=False).clone() for each in shown]
            self._ended = bool(step["next", "done"].any()) or len(self._observed) >= self._most

    @property
    def observations(self) -> TensorDictBase:
        """What was observed, ``pixels``, ``observation`` or both ``[t]``; what came after the last step too."""
        return torch.cat(self._observed)


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
        max_steps: of an episode; a longer one is cut there, counts as it stands, and a line says so.
    """
    played = play_episodes(env, policy, episodes, greedy=greedy, progress=progress, max_steps=max_steps)
    return [episode.episode_return for episode in played]


def play_episodes(
    env: EnvBase,
    policy: TensorDictModuleBase,
    episodes: int,
    *,
    greedy: bool = False,
    progress: bool = False,
    max_steps: int = MAX_STEPS,
    on_step: Callable[[TensorDictBase], object] | None = None,
) -> list[Episode]:
    """Play as :func:`evaluate` does, and return more about each episode.

    Args:
        env, policy, episodes, greedy, progress, max_steps: as in :func:`evaluate`.
        on_step: is called with the record [1] of each real step, as a collector yields it, before it counts.
    """
    played: list[Episode] = []
    if not episodes:
        return played
    counter = StepCounter(max_steps, step_count_key="evaluation_steps")
    collector = make_step_collector(TransformedEnv(env, counter, auto_unwrap=False), policy, greedy=greedy)
    with progress_bar(total=episodes, desc="evaluation", unit="episode", disable=not progress) as bar:
        for step in collector:
            if on_step is not None:
                on_step(step)
            steps = int(step["next", "evaluation_steps"].max())
            if steps >= max_steps:
                tqdm.write(f"evaluation: an episode was cut after {max_steps} steps")
            finished = [Episode(value, steps, steps >= max_steps) for value in episode_returns(step)]
            played += finished
            bar.update(len(finished))
            if len(played) >= episodes:
                break
    collector.shutdown(close_env=False)
    return played


def make_step_collector(
    env: EnvBase, policy: TensorDictModuleBase, *, total_frames: int = -1, greedy: bool = False
) -> Collector:
    """Make a collector of single steps, records [1] on the CPU, for a policy that is not trained meanwhile.

    Args:
        env: a real environment.
        policy: acts in it; its primers are added to the environment.
        total_frames: steps in all; -1 is without end.
        greedy: take the most likely action instead of a sample.
    """
    parameter = next(policy.parameters(), None)
    return Collector(
        env,
        policy,
        frames_per_batch=1,
        total_frames=total_frames,
        policy_device=None if parameter is None else parameter.device,
        env_device="cpu",
        storing_device="cpu",
        exploration_type=ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM,
        auto_register_policy_transforms=True,
    )


def episode_returns(batch: TensorDictBase) -> list[float]:
    """Return the returns of the episodes that end in a batch of real steps."""
    return batch["next", "episode_reward"][batch["next", "done"]].tolist()
