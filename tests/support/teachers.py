"""Small teachers for tests, and checks of the episodes that they play."""

from __future__ import annotations

from tests.support.tasks import CountingTask
from torchrl_glam.offline.teachers import resolve_options
from torchrl_glam.offline.teachers.config import NewDatasetConfig, PPOConfig, SACConfig, TaskConfig
from torchrl_glam.offline.teachers.datasets import play_steps
from torchrl_glam.offline.teachers.recording import Recorder
from torchrl_glam.offline.teachers.tasks import make_task_env
from torchrl_glam.offline.teachers.training import make_model

COUNTING, PAYING = "tests.support.tasks:CountingTask-v0", "tests.support.tasks:PayingTask-v0"
COUNTING_DISCRETE = "tests.support.tasks:CountingTaskDiscrete-v0"
PAYING_DISCRETE = "tests.support.tasks:PayingTaskDiscrete-v0"


def make_config(name=COUNTING, **options):
    """Options for seconds of training."""
    config = NewDatasetConfig(
        TaskConfig(name),
        total_frames=96,
        snapshots=3,
        evaluation_episodes=2,
        reference_episodes=4,
        sac=SACConfig(n_envs=2, gradient_steps=4, learning_starts=16, batch_size=8, net_arch=[8, 8]),
        ppo=PPOConfig(n_envs=2, n_steps=8, batch_size=8, n_epochs=1, net_arch=[8, 8]),
        **options,
    )
    resolve_options(config)
    return config


def check_episode(episode):
    """An episode of CountingTask, whole, and nothing else."""
    number, turn, step = episode["observations"].T
    length = CountingTask.LENGTHS[int(turn[0]) % 3]
    truncate = int(turn[0]) % 2 == 1
    assert step.tolist() == list(range(length + 1))
    assert episode["rewards"].tolist() == list(range(1, length + 1))
    assert len(set(number)) == len(set(turn)) == 1
    assert episode["terminations"].tolist() == [False] * (length - 1) + [not truncate]
    assert episode["truncations"].tolist() == [False] * (length - 1) + [truncate]


def play(name, steps, greedy=False):
    """Episodes of a teacher that has learned nothing."""
    config = make_config(name)
    return play_steps(make_model(config, make_task_env(config, 1, Recorder)), steps, seed=0, greedy=greedy)
