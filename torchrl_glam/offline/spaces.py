"""The observations and actions that sequence models take, and whether an environment has a dataset's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from torchrl.data import Bounded, OneHot, TensorSpec

from torchrl_glam.errors import UsageError, one_line
from torchrl_glam.offline.environment import make_decision_env


def make_observation_shape(dataset_id: str, dataset: Any) -> torch.Size:
    """The shape of a ``minari.MinariDataset``'s observations: (o,) of numbers, or (h, w, 3) of uint8 pixels.

    Raises:
        UsageError: if they are of another kind, or stored in a way that TorchRL does not read.
    """
    from minari.dataset.minari_storage import is_image_space

    space, metadata = dataset.observation_space, dataset.storage.metadata
    if metadata.get("data_format") != "hdf5":
        raise UsageError(
            f"the dataset {dataset_id} is stored as {metadata.get('data_format')}, of which TorchRL reads hdf5 alone: "
            'write it with data_format="hdf5"'
        )
    pixels = isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] == 3
    if not pixels and not (isinstance(space, Box) and len(space.shape) == 1):
        raise UsageError(
            f"the dataset {dataset_id} has the observations {one_line(space)}: choose one with vectors, a Box with one "
            "dimension, or with RGB images, a Box [h w 3] of uint8"
        )
    if is_image_space(space) and metadata.get("jpeg_encoding", True):
        raise UsageError(
            f"the dataset {dataset_id} has its images as JPEG, which TorchRL does not read: write it with "
            "jpeg_encoding=False, as examples/export.py does"
        )
    return torch.Size(space.shape)


def make_action_spec(dataset_id: str, space: Space) -> TensorSpec:
    """``OneHot`` of a ``Discrete`` space, ``Bounded`` of a ``Box`` of floats with one dimension, both float32.

    Raises:
        UsageError: for any other space.
    """
    if isinstance(space, Discrete):
        return OneHot(int(space.n), dtype=torch.float32)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1:
        low, high = (torch.from_numpy(bound.astype(np.float32)) for bound in (space.low, space.high))
        if torch.isfinite(high - low).all() and (low < high).all():
            return Bounded(low, high, dtype=torch.float32)
    raise UsageError(
        f"the dataset {dataset_id} has the actions {one_line(space)}: choose one with Discrete actions, or with a Box "
        "of floats that has one dimension and finite bounds"
    )


def check_fits(dataset_id: str, env_name: str, observation_shape: torch.Size, action_spec: TensorSpec) -> None:
    """See that the environment exists and has a dataset's observations and actions.

    Raises:
        UsageError: if not.
    """
    env = make_decision_env(env_name, pixels=len(observation_shape) == 3)
    observed, own_spec = env.observation_spec, env.action_spec
    env.close()
    keys = list(map(str, observed.keys()))
    if "observation" not in keys:
        raise UsageError(
            f"{env_name} observes {', '.join(keys)}: choose an environment with one observation, a vector or an image"
        )
    own_shape = observed["observation"].shape
    came, wanted = (f"observations {list(shape)}" for shape in (observation_shape, own_shape))
    if observation_shape == own_shape:
        came, wanted = _describe(action_spec), _describe(own_spec)
    if came != wanted:
        raise UsageError(
            f"the dataset {dataset_id} has {came}, the environment {env_name} {wanted}: give the env.name of the one "
            "it was recorded in"
        )


def _describe(spec: TensorSpec) -> str:
    """Actions in words, the same for equal ones."""
    if isinstance(spec, Bounded):
        low, high = ([round(bound, 3) for bound in side.tolist()] for side in (spec.space.low, spec.space.high))
        return f"actions from {low} to {high}"
    return f"{spec.shape[-1]} discrete actions" if isinstance(spec, OneHot) else f"actions {one_line(spec)}"
