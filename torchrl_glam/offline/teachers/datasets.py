"""A teacher's steps, and those of its policies, as a Minari dataset."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from torchrl_glam import __version__
from torchrl_glam.data.minari_files import write_dataset
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.teachers.config import NewDatasetConfig, Quality, Until
from torchrl_glam.offline.teachers.recording import (
    Episode,
    Recorder,
    episode_return,
    first_steps,
    read_steps,
    to_buffer,
)
from torchrl_glam.offline.teachers.snapshots import STEPS, Model, Snapshot, Teacher
from torchrl_glam.offline.teachers.tasks import as_float32, check_task, make_task_env
from torchrl_glam.offline.teachers.training import make_model

DEFAULT_STEPS = 100_000
RECORDING_SEED = 2000  # added to the teacher's: recorded episodes never begin as training and evaluation do


@dataclass(frozen=True)
class NewDataset:
    """A dataset that was written; as a text, a part of a line.

    Args:
        dataset_id: Minari's.
        steps: number of transitions.
        returns: of its episodes; of one that was cut, the sum until then.
    """

    dataset_id: str
    steps: int
    returns: list[float]

    def __str__(self) -> str:
        """Return the numbers of steps and episodes, and the mean return."""
        number, mean = len(self.returns), statistics.fmean(self.returns)
        return f"{self.steps} steps, {number} episode{'s' * (number != 1)}, mean return {mean:.1f}"


def default_dataset_id(name: str, quality: Quality, until: Until = Until.medium) -> str:
    """Return a name after task and quality, as in D4RL.

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
        teacher: has learned the task.
        config: the options after :func:`~torchrl_glam.offline.teachers.training.resolve_options`.
        dataset_id: ``(namespace/)name-v0``, a new one.
        root: the folder of datasets.

    Raises:
        UsageError: if the teacher cannot give this quality, or the dataset cannot be written.
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
        map(to_buffer, episodes),
        root=root,
        env=spec,
        observation_space=as_float32(observation),
        action_space=action,
        algorithm_name=teacher.algorithm,
        description=describe(teacher, config, medium),
        ref_min_score=teacher.random_score,
        ref_max_score=teacher.expert_score,
    )
    steps = sum(len(episode["rewards"]) for episode in episodes)
    return NewDataset(dataset_id, steps, [episode_return(episode) for episode in episodes])


def describe(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> str:
    """Return what the dataset holds and how it was made, for its metadata."""
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
        f"{config.env.name}, quality {config.quality.value}. The teacher: {teacher.algorithm} of stable-baselines3, "
        f"trained for {config.total_frames} steps, seed {config.seed}. {content[config.quality]} Observations are "
        "float32 and not normalised. The last episode of each policy may be cut to the number of steps that was asked "
        "for, and is then marked as truncated. References are mean returns of a policy of uniform actions "
        f"({len(teacher.random_returns)} episodes) and of {expert} ({len(teacher.expert_returns)} episodes). "
        f"Made by torchrl_glam {__version__}."
    )


def play_steps(model: Model, steps: int, *, seed: int, greedy: bool) -> list[Episode]:
    """Play exactly ``steps`` steps; the last episode may be cut.

    Args:
        model: plays its own environment, one with a ``Recorder``.
        steps: number of steps.
        seed: of environment and actions.
        greedy: take the most likely action instead of a sample.
    """
    torch.manual_seed(seed)
    env = model.get_env()
    assert env is not None
    env.seed(seed)
    observation = env.reset()
    for _ in progress_bar(iterable=range(steps), desc="recording", unit="step"):
        action, _ = model.predict(observation, deterministic=greedy)  # type: ignore[arg-type]
        observation, *_ = env.step(action)
    (episodes,) = env.get_attr("episodes")
    return [episode for episode in episodes if episode["rewards"]]


def _replay_episodes(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> list[Episode]:
    stop = medium.frame if config.until is Until.medium else teacher.snapshots[-1].frame
    try:
        episodes = read_steps(teacher.folder / STEPS, stop)
    except DamagedError as error:
        raise UsageError(f"{error}: remove {teacher.folder} to train again") from error
    if not episodes:
        raise UsageError(f"no episode ended in the first {stop} steps of the training: choose until=end")
    return list(first_steps(episodes, config.steps))


def _policy_episodes(teacher: Teacher, config: NewDatasetConfig, medium: Snapshot) -> list[Episode]:
    steps = config.steps or DEFAULT_STEPS
    half = steps // 2
    parts = {  # snapshot, steps, whether it plays its most likely actions
        Quality.medium: [(medium.frame, steps, False)],
        Quality.expert: [(teacher.expert, steps, True)],
        Quality.mixed: [(medium.frame, half, False), (teacher.expert, steps - half, True)],
    }
    episodes: list[Episode] = []
    for number, (frame, share, greedy) in enumerate(parts[config.quality]):
        model = make_model(config, make_task_env(config, 1, Recorder))
        teacher.load_policy(frame, model)
        episodes += play_steps(model, share, seed=config.seed + RECORDING_SEED + number, greedy=greedy)
    return episodes
