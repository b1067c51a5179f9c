"""A teacher's steps, and those of its policies, as a Minari dataset of a quality."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box
from tensordict import TensorDictBase

from torchrl_glam import __version__
from torchrl_glam.data.minari_files import write_dataset
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.offline.teachers.config import NewDatasetConfig, Quality, Until
from torchrl_glam.offline.teachers.playing import play_episodes
from torchrl_glam.offline.teachers.recording import cut_episodes, episode_return, first_steps, read_steps, to_buffer
from torchrl_glam.offline.teachers.snapshots import STEPS, Snapshot, Teacher
from torchrl_glam.offline.teachers.tasks import check_task, make_task_env
from torchrl_glam.offline.teachers.training import make_teacher

DEFAULT_STEPS = 100_000
RECORDING_SEED = 2000  # added to the run's: what is recorded never begins as training and evaluation do


@dataclass(frozen=True)
class NewDataset:
    """A dataset that was written; printed, a part of a line.

    Args:
        dataset_id: Minari's.
        steps: transitions in it.
        returns: of its episodes; that of a cut one is what it had come to.
    """

    dataset_id: str
    steps: int
    returns: list[float]

    def __str__(self) -> str:
        """What it holds."""
        number, mean = len(self.returns), statistics.fmean(self.returns)
        return f"{self.steps} steps, {number} episode{'s' * (number != 1)}, mean return {mean:.1f}"


def default_dataset_id(name: str, quality: Quality, until: Until = Until.medium) -> str:
    """A name after task and quality, as in D4RL.

    Examples:
        >>> from torchrl_glam.offline.teachers.config import Quality, Until
        >>> from torchrl_glam.offline.teachers.datasets import default_dataset_id
        >>> default_dataset_id("InvertedPendulum-v5", Quality.medium)
        'inverted-pendulum/medium-v0'
        >>> default_dataset_id("CartPole-v1", Quality.replay)
        'cartpole/replay-v0'
        >>> default_dataset_id("CartPole-v1", Quality.replay, Until.end)
        'cartpole/full-replay-v0'
    """
    bare = re.sub(r"-v\d+$", "", re.split("[/:]", name)[-1])
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", bare).lower()
    words = {"cart-pole": "cartpole", "half-cheetah": "halfcheetah"}.get(words, words)  # as D4RL and gym write them
    full = "full-" if quality is Quality.replay and until is Until.end else ""
    return f"{re.sub(r'[^a-z0-9]+', '-', words).strip('-') or 'task'}/{full}{quality.value}-v0"


def record_dataset(teacher: Teacher, config: NewDatasetConfig, dataset_id: str, root: Path) -> NewDataset:
    """Record episodes of the quality that is asked for, or take them from the training, and write the dataset.

    Args:
        teacher: has learnt the task.
        config: the options, with :func:`~torchrl_glam.offline.teachers.training.resolve_options` behind them.
        dataset_id: ``(namespace/)name-v0``, a new one.
        root: the folder of datasets.

    Raises:
        UsageError: if the quality cannot be had from the teacher, or the dataset cannot be written.
    """
    observation, action, spec = check_task(config.env.name)
    whole = config.quality is Quality.expert or (config.quality is Quality.replay and config.until is Until.end)
    medium = teacher.snapshots[-1] if whole else teacher.choose_medium(config.medium)  # the last one: not asked for
    if config.quality is Quality.replay:
        episodes = _replay_episodes(teacher, config, medium)
    else:
        episodes = _policy_episodes(teacher, config, medium)
    write_dataset(
        dataset_id,
        [to_buffer(episode, whole) for episode, whole in episodes],
        root=root,
        env=spec,
        observation_space=_as_float32(observation),
        action_space=action,
        algorithm_name=teacher.algorithm,
        description=describe(teacher, config, medium),
        ref_min_score=teacher.random_score,
        ref_max_score=teacher.expert_score,
    )
    steps = sum(len(episode) for episode, _ in episodes)
    return NewDataset(dataset_id, steps, [episode_return(episode) for episode, _ in episodes])


def describe(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> str:
    """What the dataset holds and how it was made, for its metadata."""
    expert = f"its best policy (after step {teacher.expert}), playing its most likely actions"
    middle = (
        f"its policy after step {medium.frame} (mean return {medium.mean:.1f} over {len(medium.returns)} episodes, "
        f"chosen for medium={config.medium:g} between random and expert), with sampled actions"
    )
    until = "its end" if config.until is Until.end else f"step {medium.frame}, where it had become a medium policy"
    content = {
        Quality.medium: f"Episodes of {middle}.",
        Quality.expert: f"Episodes of {expert}.",
        Quality.mixed: f"Half of the steps are of {middle}, the other half of {expert}.",
        Quality.replay: f"Every whole episode of the training until {until}, in the order in which they ended.",
    }
    return (
        f"{config.env.name}, quality {config.quality.value}. The teacher: {teacher.algorithm} of TorchRL, trained for "
        f"{config.total_frames} steps, seed {config.seed}. {content[config.quality]} Observations are float32 and not "
        "normalised. The last episode of each policy may be cut to the number of steps that was asked for, and is then "
        "marked as truncated; episodes that went on when there were enough, more often long ones, are left out. "
        f"References are mean returns of a policy of uniform actions ({len(teacher.random_returns)} episodes) and of "
        f"{expert} ({len(teacher.expert_returns)} episodes). Made by torchrl_glam {__version__}."
    )


def _replay_episodes(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> list[tuple[TensorDictBase, bool]]:
    stop = medium.frame if config.until is Until.medium else teacher.snapshots[-1].frame
    try:
        episodes = cut_episodes(read_steps(teacher.folder / STEPS, stop))
    except DamagedError as error:
        raise UsageError(f"{error}: remove {teacher.folder} to train again") from error
    if not episodes:
        raise UsageError(f"no episode ended in the first {stop} steps of the training: choose until=end")
    return list(first_steps(episodes, config.steps))


def _policy_episodes(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> list[tuple[TensorDictBase, bool]]:
    steps = config.steps or DEFAULT_STEPS
    half = steps // 2
    parts = {  # snapshot, steps, whether it plays its most likely actions
        Quality.medium: [(medium.frame, steps, False)],
        Quality.expert: [(teacher.expert, steps, True)],
        Quality.mixed: [(medium.frame, half, False), (teacher.expert, steps - half, True)],
    }
    env = make_task_env(config.env.name, 1, config.seed)
    actor = make_teacher(config, env).actor
    env.close()
    episodes: list[tuple[TensorDictBase, bool]] = []
    for number, (frame, share, greedy) in enumerate(parts[config.quality]):
        if share == 0:  # of a single step
            continue
        teacher.load_policy(frame, actor)
        played = play_episodes(config.env.name, actor, share, seed=config.seed + RECORDING_SEED + number, greedy=greedy)
        episodes += first_steps(played, share)
    return episodes


def _as_float32(space: Box) -> Box:
    return Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
