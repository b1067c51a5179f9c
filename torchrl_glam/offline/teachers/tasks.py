"""The Gymnasium tasks that a teacher can learn, as environments of stable-baselines3."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec as find_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.errors import UsageError, first_line, one_line
from torchrl_glam.offline.teachers.config import Algorithm, TeacherConfig

FRAMES = {"CartPole": 32_768, "InvertedPendulum": 40_960, "Hopper": 200_000, "HalfCheetah": 150_000}
"""Environment steps after which a teacher does a task well."""
OTHER_FRAMES = 200_000
FOR_PPO = ("InvertedPendulum",)  # where it needs less time than SAC, though actions are continuous


def check_task(name: str) -> tuple[Box, Box | Discrete, EnvSpec]:
    """Return the spaces and the specification of a task that a teacher can learn.

    Raises:
        UsageError: if there is no such environment, it cannot be made, or its spaces do not suit.
    """
    spec = find_spec(name)
    try:
        env = gymnasium.make(spec)
    except gymnasium.error.DependencyNotInstalled as error:
        missing = 'pip install "gymnasium[mujoco]"' if find_module("mujoco") is None else first_line(error)
        raise UsageError(f"env.name={name} needs a package that is missing: {missing}") from error
    except Exception as error:  # an environment's constructor may raise anything
        raise UsageError(f"env.name={name} could not be made: {first_line(error) or type(error).__name__}") from error
    observation: Any = env.observation_space
    action: Any = env.action_space
    env.close()
    if not _is_float_vector(observation):
        raise UsageError(
            f"env.name={name} observes {one_line(observation)}: choose a task that observes a vector of floats"
        )
    bounded = _is_float_vector(action) and action.is_bounded("both")
    if not bounded and not (isinstance(action, Discrete) and action.start == 0):
        raise UsageError(
            f"env.name={name} has the actions {one_line(action)}: choose a task with Discrete actions that count from "
            "0, or with a vector of floats that has finite bounds"
        )
    return observation, action, spec


def make_task_env(config: TeacherConfig, num_envs: int, wrap: Callable[[gymnasium.Env], gymnasium.Env]) -> VecEnv:
    """Make copies of the task that play side by side in this process and observe float32.

    For PPO, observations are normalised by the statistics of those seen so far.

    Args:
        config: names task, algorithm and seed.
        num_envs: number of copies.
        wrap: is applied to each copy, below the normalisation.
    """

    def make() -> gymnasium.Env:
        env = gymnasium.make(find_spec(config.env.name))
        space = as_float32(env.observation_space)
        return wrap(TransformObservation(env, lambda observation: observation.astype(np.float32), space))

    env = make_vec_env(make, num_envs, seed=config.seed)
    return VecNormalize(env, norm_reward=False) if config.teacher is Algorithm.ppo else env


def as_float32(space: Any) -> Box:
    """Return a ``Box`` of float32 with the same bounds."""
    return Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def default_frames(name: str) -> int:
    """Return the number of environment steps for which a teacher of the task learns.

    Examples:
        >>> from torchrl_glam.offline.teachers.tasks import default_frames
        >>> default_frames("Hopper-v5")
        200000
    """
    return FRAMES.get(name.rpartition("-")[0], OTHER_FRAMES)


def default_algorithm(name: str, action: Box | Discrete) -> Algorithm:
    """Return the algorithm that ``teacher=auto`` means for the task."""
    suits_ppo = isinstance(action, Discrete) or name.rpartition("-")[0] in FOR_PPO
    return Algorithm.ppo if suits_ppo else Algorithm.sac


def _is_float_vector(space: Any) -> bool:
    return isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
