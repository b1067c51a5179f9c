"""Tiny Minari datasets for tests, whose entries name episode and step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from minari.data_collector import EpisodeBuffer

from torchrl_glam.data.minari_files import write_dataset
from torchrl_glam.offline.dataset import OfflineDataset, load_dataset

LENGTHS = (4, 7, 1, 5)
VECTORS = Box(-np.inf, np.inf, (3,), np.float64)
TORQUES = Box(-2, 2, (1,), np.float32)
PENDULUM = "Pendulum-v1"  # has these two
CART_POLE: dict[str, Space] = {"observations": Box(-1, 1, (4,), np.float32), "actions": Discrete(2)}
PIXELS = Box(0, 255, (64, 64, 3), np.uint8)
MOVES = Discrete(6)
PONG = "ALE/Pong-v5"  # has these two, as torchrl_glam plays it


def reward_at(episode: int, step: int) -> float:
    """Return the reward of a step, which identifies it and sums up exactly in float32."""
    return 1 + episode + step / 8


def write_episodes(
    root: Path,
    lengths: Sequence[int] = LENGTHS,
    *,
    observations: Space = VECTORS,
    actions: Space = TORQUES,
    dataset_id: str = "tests/counting-v0",
    change: Any = None,
    **options: Any,
) -> str:
    """Write a dataset of episodes that count, and return its id.

    Args:
        root: the folder of datasets.
        lengths: the steps of each episode.
        observations: vectors [episode, step, 0 ..], or images full of 16 times the episode plus the step.
        actions: ``Discrete``, the step modulo their number, or a ``Box``, whose upper bound is
            multiplied by the step modulo 16, divided by 16.
        dataset_id: its name.
        change: may change each episode's dict of arrays, which it is called with after the episode's number.
        options: of ``minari.create_dataset_from_buffers``, as ``env``, ``ref_min_score``.
    """

    def make(episode: int, length: int) -> EpisodeBuffer:
        steps = np.arange(length + 1)
        if observations.dtype == np.uint8 and len(observations.shape) == 3:
            seen = np.broadcast_to(16 * episode + steps[:, None, None, None], (length + 1, *observations.shape))
        else:
            seen = np.zeros((length + 1, *observations.shape))
            seen[:, 0], seen[:, 1] = episode, steps
        if isinstance(actions, Discrete):
            acted = actions.start + steps[:-1] % actions.n
        else:
            acted = np.outer(steps[:-1] % 16 / 16, actions.high)
        entries = {
            "observations": seen.astype(observations.dtype),
            "actions": acted.astype(actions.dtype),
            "rewards": np.array([reward_at(episode, step) for step in range(length)]),
            "terminations": np.arange(length) == (length - 1 if episode % 2 else -1),  # in turns: truncated, terminated
            "truncations": np.arange(length) == (-1 if episode % 2 else length - 1),
        }
        if change is not None:
            change(episode, entries)
        return EpisodeBuffer(**entries)

    episodes = [make(episode, length) for episode, length in enumerate(lengths)]
    if "env" not in options:
        options |= {"observation_space": observations, "action_space": actions}
    write_dataset(dataset_id, episodes, root=root, **options)
    return dataset_id


def load(root: Path, *, env_name: str | None = PENDULUM, **options: Any) -> OfflineDataset:
    """Write a dataset by :func:`write_episodes` and load it."""
    return load_dataset(write_episodes(root, **options), root=root, env_name=env_name, download=False)
