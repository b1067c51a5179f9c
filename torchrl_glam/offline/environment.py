"""The environment that a dataset was recorded in, and the observations and actions that sequence models take."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, Space
from torchrl.data import Bounded, OneHot, TensorSpec
from torchrl.envs import CatFrames, DoubleToFloat, EnvBase, GymWrapper, RenameTransform, TransformedEnv

from torchrl_glam.data.minari_files import ROUNDED
from torchrl_glam.envs.atari import make_atari_env
from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.envs.wrappers import BoolEnds
from torchrl_glam.errors import UsageError, one_line
from torchrl_glam.machine.invocation import other_command

MOST_ACTIONS = 65_536


def make_decision_env(
    name: str | EnvSpec,
    *,
    frame: Sequence[int] | None = None,
    stack: int = 1,
    protocol: str = "glam",
    frame_skip: int | None = None,
) -> EnvBase:
    """Make a Gymnasium environment with ``observation`` and ``action`` as in an ``OfflineDataset``.

    Args:
        name: of a Gymnasium environment, or its specification, as of
            :func:`~torchrl_glam.offline.recorded.recorded_spec`.
        frame: observe square frames [h w 3], or grey ones [h w 1], as :func:`~torchrl_glam.envs.make_atari_env` makes
            them, and act as agents of GLAM do; ``None``: observe float32 vectors, with actions one-hot or of the
            environment's own ``Box``.
        stack: frames of an observation, see :func:`~torchrl_glam.offline.frames.stack_frames`.
        protocol, frame_skip: see there; only for frames.

    Raises:
        UsageError: if there is no such environment, or it cannot be made.
    """
    spec = name if isinstance(name, EnvSpec) else find_spec(name)
    if frame is not None:
        image: dict[str, Any] = {"image_size": frame[0], "color": "grey" if frame[2] == 1 else "rgb"}
        env = make_atari_env(spec, protocol=protocol, frame_skip=frame_skip, observation="pixels", **image)
        env = env.append_transform(RenameTransform(["pixels"], ["observation"]))
        return env.append_transform(CatFrames(stack, -1, in_keys=["observation"])) if stack > 1 else env
    try:
        # Not torchrl's GymEnv: 0.14.1 gives frameskip=1 to every constructor that takes it.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ROUNDED)
            vector_env = GymWrapper(BoolEnds(gymnasium.make(spec)))
    except Exception as error:  # an environment's constructor may raise anything
        raise UsageError(f"{spec.id!r} could not be made: {one_line(error) or type(error).__name__}") from error
    # The transform is in each environment: torchrl 0.14.1 cannot step some of a SerialEnv, as a rollout until all are
    # done does, if a transform behind it turns their doubles into floats.
    return TransformedEnv(vector_env, DoubleToFloat())


def make_observation_shape(dataset_id: str, dataset: Any) -> torch.Size:
    """Return the shape of a ``minari.MinariDataset``'s observations: (o,) numbers, or (h, w, 1 or 3) uint8 pixels.

    Raises:
        UsageError: if they are of another kind, or stored in a way that is not read.
    """
    from minari.dataset.minari_storage import is_image_space

    space, metadata = dataset.observation_space, dataset.storage.metadata
    if metadata.get("data_format") != "hdf5":
        raise UsageError(
            f"the dataset {dataset_id} is stored as {metadata.get('data_format')}, and only hdf5 is read: "
            'write it with data_format="hdf5"'
        )
    pixels = isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] in (1, 3)
    if not pixels and not (isinstance(space, Box) and len(space.shape) == 1):
        raise UsageError(
            f"the dataset {dataset_id} has the observations {one_line(space)}: choose one with vectors, a Box with one "
            "dimension, or with images, a Box [h w 3] of uint8, or [h w 1] of grey ones"
        )
    if is_image_space(space) and metadata.get("jpeg_encoding", True):
        raise UsageError(
            f"the dataset {dataset_id} has its images as JPEG, which are not read: write it with "
            f"jpeg_encoding=False, as {other_command('export')} does"
        )
    return torch.Size(space.shape)


def make_action_spec(dataset_id: str, space: Space) -> TensorSpec:
    """Make ``OneHot`` for a ``Discrete`` space, ``Bounded`` for a ``Box`` [a] of floats, both float32.

    Raises:
        UsageError: for any other space.
    """
    if isinstance(space, Discrete) and space.n <= MOST_ACTIONS:
        return OneHot(int(space.n), dtype=torch.float32)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1:
        low, high = (torch.from_numpy(bound.astype(np.float32)) for bound in (space.low, space.high))
        if torch.isfinite(high - low).all() and (low < high).all():
            return Bounded(low, high, dtype=torch.float32)
    raise UsageError(
        f"the dataset {dataset_id} has the actions {one_line(space)}: choose one with Discrete actions, or with a Box "
        "of floats that has one dimension and finite bounds"
    )


def check_fits(dataset_id: str, spec: EnvSpec, observation_shape: torch.Size, action_spec: TensorSpec) -> None:
    """Raise UsageError unless the environment can be made and has the dataset's observations and actions."""
    env_name = spec.id
    env = make_decision_env(spec, frame=observation_shape if len(observation_shape) == 3 else None)
    observed, own_spec = env.observation_spec, env.action_spec
    env.close()
    keys = list(map(str, observed.keys()))
    if "observation" not in keys:
        raise UsageError(
            f"{env_name} observes {', '.join(keys)}: choose an environment with one observation, a vector or an image"
        )
    own_shape = observed["observation"].shape
    found, needed = (f"observations {list(shape)}" for shape in (observation_shape, own_shape))
    if observation_shape == own_shape:
        found, needed = _describe(action_spec), _describe(own_spec)
    if found != needed:
        raise UsageError(
            f"the dataset {dataset_id} has {found}, the environment {env_name} {needed}: give the env.name of the one "
            "it was recorded in"
        )


def _describe(spec: TensorSpec) -> str:
    """Return actions in words, the same for equal ones."""
    if isinstance(spec, Bounded):
        low, high = ([round(bound, 3) for bound in side.tolist()] for side in (spec.space.low, spec.space.high))
        return f"actions from {low} to {high}"
    return f"{spec.shape[-1]} discrete actions" if isinstance(spec, OneHot) else f"actions {one_line(spec)}"
