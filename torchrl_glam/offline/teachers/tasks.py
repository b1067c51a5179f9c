"""The Gymnasium tasks that a teacher can learn, as TorchRL environments."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec as find_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from torchrl.envs import Compose, EnvBase, RewardSum, SerialEnv, StepCounter, TransformedEnv

from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.errors import UsageError, first_line, one_line
from torchrl_glam.offline.environment import make_decision_env
from torchrl_glam.offline.teachers.config import Algorithm

FRAMES = {"CartPole": 32_768, "InvertedPendulum": 40_960, "Hopper": 200_000, "HalfCheetah": 150_000}
"""Environment steps after which a teacher does a task well."""
OTHER_FRAMES = 200_000
FOR_PPO = ("InvertedPendulum",)  # where it needs less time than SAC, though actions are continuous


def check_task(name: str) -> tuple[Box, Box | Discrete, EnvSpec]:
    """Look ``name`` up, see that a teacher can learn it, and return its spaces and its specification.

    Raises:
        UsageError: if there is no such environment, it cannot be made, or its spaces do not suit.
    """
    spec = find_spec(name)
    try:
        env = gymnasium.make(spec)
    except gymnasium.error.DependencyNotInstalled as error:
        missing = 'pip install "gymnasium[mujoco]"' if find_module("mujoco") is None else first_line(error)
        raise UsageError(f"env.name={name} needs a package that is missing: {missing}") from error
    except Exception as error:  # whatever the constructor of somebody's environment may raise
        raise UsageError(f"env.name={name} could not be made: {first_line(error) or type(error).__name__}") from error
    observation: Any = env.observation_space
    action: Any = env.action_space
    env.close()
    if not isinstance(observation, Box) or len(observation.shape) != 1 or not _is_float(observation):
        raise UsageError(
            f"env.name={name} observes {one_line(observation)}: choose a task that observes a vector of floats"
        )
    bounded = isinstance(action, Box) and len(action.shape) == 1 and _is_float(action) and action.is_bounded("both")
    if not bounded and not (isinstance(action, Discrete) and action.start == 0):
        raise UsageError(
            f"env.name={name} has the actions {one_line(action)}: choose a task with Discrete actions that count from "
            "0, or with a vector of floats that has finite bounds"
        )
    return observation, action, spec


def make_task_env(name: str, num_envs: int, seed: int) -> EnvBase:
    """Several copies of the task, one after the other in this process, whose floats are float32.

    Steps have the keys ``observation``, ``action``, ``step_count`` and ``episode_reward``, each ``[num_envs ..]``.
    """
    copies = SerialEnv(num_envs, partial(make_decision_env, name))
    env = TransformedEnv(copies, Compose(RewardSum(["reward"], ["episode_reward"]), StepCounter()))
    env.set_seed(seed)
    return env


def default_frames(name: str) -> int:
    """How long a teacher of the task learns.

    Examples:
        >>> from torchrl_glam.offline.teachers.tasks import default_frames
        >>> default_frames("Hopper-v5")
        200000
    """
    return FRAMES.get(name.rpartition("-")[0], OTHER_FRAMES)


def default_algorithm(name: str, action: Box | Discrete) -> Algorithm:
    """What ``teacher=auto`` means for the task."""
    suits_ppo = isinstance(action, Discrete) or name.rpartition("-")[0] in FOR_PPO
    return Algorithm.ppo if suits_ppo else Algorithm.sac


def round_up(number: int, step: int) -> int:
    """The least multiple of ``step`` that is not below ``number``: collectors yield whole batches."""
    return -(-number // step) * step


def _is_float(space: Box) -> bool:
    return bool(np.issubdtype(space.dtype, np.floating))
