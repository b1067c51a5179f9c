"""Every step that a teacher took, in files, and cut into episodes.

``e`` environments, ``t`` steps, ``o`` observation size, ``a`` action size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.checkpoint import read_state, write_state

KEYS = ("observation", "action", *(("next", key) for key in ("observation", "reward", "terminated", "done")))


def write_steps(folder: Path, stop: int, batches: list[TensorDictBase]) -> None:
    """Write steps ``[e t]`` that follow on those in the folder, the last of which is step ``stop`` of the training."""
    steps: Any = torch.cat([batch.select(*KEYS) for batch in batches], 1)
    write_state(folder / f"steps-{stop:012d}.safetensors", steps.to_dict())


def read_steps(folder: Path, stop: int) -> TensorDict:
    """The steps ``[e t]`` of the training up to ``stop``.

    Raises:
        DamagedError: if a file is damaged or missing.
    """
    numbers = sorted(int(path.stem.split("-")[1]) for path in folder.glob("steps-*.safetensors"))
    parts = []
    for number in numbers:
        if number <= stop:
            steps = read_state(folder / f"steps-{number:012d}.safetensors")
            parts.append(TensorDict(steps, batch_size=steps["observation"].shape[:2]))
    if (found := sum(part.numel() for part in parts)) != stop:
        raise DamagedError(f"{folder} holds {found} of the first {stop} steps")
    return torch.cat(parts, 1)


def cut_episodes(steps: TensorDictBase) -> list[TensorDictBase]:
    """The whole episodes ``[t]`` in steps ``[e t]``, in the order in which they ended; what goes on is left out."""
    done = steps["next", "done"].squeeze(-1)
    starts = [0] * len(steps)
    episodes = []
    for time, row in done.T.nonzero().tolist():
        episodes.append(steps[row, starts[row] : time + 1])
        starts[row] = time + 1
    return episodes


def first_steps(episodes: Iterable[TensorDictBase], limit: int | None) -> Iterator[tuple[TensorDictBase, bool]]:
    """Episodes ``[t]`` up to ``limit`` steps in all, and of each whether it is whole; the last one may be cut."""
    left = limit
    for episode in episodes:
        if left is not None and len(episode) >= left:
            yield episode[:left], len(episode) == left
            return
        yield episode, True
        left = None if left is None else left - len(episode)


def episode_return(episode: TensorDictBase) -> float:
    """The undiscounted return of an episode ``[t]``."""
    return float(episode["next", "reward"].sum(dtype=torch.float64))


def to_buffer(episode: TensorDictBase, whole: bool) -> Any:
    """An episode ``[t]`` as Minari's: t + 1 observations ``[t+1 o]``, actions ``[t a]``, or numbers ``[t]``."""
    from minari.data_collector import EpisodeBuffer

    action, following = episode["action"], episode["next"]
    terminated = following["terminated"].flatten().numpy()
    truncated = following["done"].flatten().numpy() & ~terminated
    truncated[-1] |= not whole
    return EpisodeBuffer(
        observations=_with_last(episode["observation"], following["observation"][-1:]),
        actions=(action if action.dtype.is_floating_point else action.long().argmax(-1)).numpy(),
        rewards=following["reward"].flatten().numpy(),
        terminations=terminated,
        truncations=truncated,
    )


def _with_last(observation: Tensor, last: Tensor) -> np.ndarray:
    return torch.cat([observation, last]).numpy()
