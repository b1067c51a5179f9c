"""Episodes as they are played, and every step of a teacher's training in one file.

An episode is a dict of arrays by Minari's names: ``t + 1`` observations ``[t+1 o]``, and ``t`` actions, rewards,
terminations and truncations. ``t`` steps, ``o`` observation size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.checkpoint import read_state, write_state

Episode = dict[str, Any]
ENTRIES = {
    "observations": np.float32,
    "actions": None,
    "rewards": np.float32,
    "terminations": bool,
    "truncations": bool,
}


class Recorder(gymnasium.Wrapper):
    """Keeps every episode that is played in :attr:`episodes`, the unfinished one last.

    Not Minari's ``DataCollector`` (0.5.4): it needs jax, and it draws a seed of its own for each episode that a vector
    environment begins, so that a teacher's seed would not decide its training.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.episodes: list[Episode] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(**options)
        self.episodes.append({name: [] for name in ENTRIES})
        self.episodes[-1]["observations"].append(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Record the step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        step = (observation, np.array(action), reward, terminated, truncated and not terminated)
        for values, value in zip(self.episodes[-1].values(), step, strict=True):
            values.append(value)
        return observation, reward, terminated, truncated, info


def write_steps(path: Path, recorded: list[list[Episode]]) -> None:
    """Write the whole episodes of environments that play in step, in the order in which they end.

    Each is written with the training's step at which it ends; episodes that are not finished are left out.

    Args:
        path: the file.
        recorded: the episodes of each environment.
    """
    ends: list[tuple[int, int, Episode]] = []
    for number, episodes in enumerate(recorded):
        stops = np.cumsum([len(episode["rewards"]) for episode in episodes]) * len(recorded)
        whole = [
            (int(stop), number, episode) for stop, episode in zip(stops, episodes, strict=True) if is_whole(episode)
        ]
        ends += whole
    ends.sort(key=lambda end: end[:2])
    state: dict[str, Any] = {
        "ends": [stop for stop, _, _ in ends],
        "lengths": [len(episode["rewards"]) for _, _, episode in ends],
    }
    for name, dtype in ENTRIES.items():
        values = [value for _, _, episode in ends for value in episode[name]]
        state[name] = torch.from_numpy(np.array(values, dtype))
    write_state(path, state)


def read_steps(path: Path, stop: int) -> list[Episode]:
    """Read the episodes of the training that end up to its step ``stop``.

    Raises:
        DamagedError: if the file is damaged or missing.
    """
    state = read_state(path)
    try:
        ends, lengths = state.pop("ends"), state.pop("lengths")
        parts = {name: state[name].split([length + (name == "observations") for length in lengths]) for name in ENTRIES}
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise DamagedError(f"{path.name} holds no steps of a training") from error
    number = sum(end <= stop for end in ends)
    return [{name: parts[name][index].numpy() for name in ENTRIES} for index in range(number)]


def first_steps(episodes: Iterable[Episode], limit: int | None) -> Iterator[Episode]:
    """Yield episodes up to ``limit`` steps in all; the last one may be cut."""
    left = limit
    for episode in episodes:
        length = len(episode["rewards"])
        if left is not None and length >= left:
            yield {name: values[: left + (name == "observations")] for name, values in episode.items()}
            return
        yield episode
        left = None if left is None else left - length


def is_whole(episode: Episode) -> bool:
    """Return whether the episode has ended."""
    return bool(len(episode["rewards"]) and (episode["terminations"][-1] or episode["truncations"][-1]))


def episode_return(episode: Episode) -> float:
    """Return the episode's undiscounted return."""
    return float(np.sum(episode["rewards"], dtype=np.float64))


def to_buffer(episode: Episode) -> Any:
    """Make Minari's ``EpisodeBuffer``; an episode that was cut is truncated."""
    from minari.data_collector import EpisodeBuffer

    arrays = {name: np.array(episode[name], dtype) for name, dtype in ENTRIES.items()}
    arrays["truncations"][-1] |= not is_whole(episode)
    return EpisodeBuffer(**arrays)
