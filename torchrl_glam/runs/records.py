"""A run's real records from its folder, some at a time: all of them may be as large as memory.

``t`` records of one environment, ``e`` environments. Record ``i`` of the run is of environment ``i % e``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from tensordict import TensorDictBase
from torch import Tensor

from torchrl_glam.runs.checkpoint import read_records
from torchrl_glam.runs.checkpoint.replay_files import NAME, REPLAY
from torchrl_glam.errors import UsageError

AT_ONCE = 4096  # records of 64x64: 50 MB


def record_range(folder: Path) -> range:
    """The numbers of the records on disk.

    Raises:
        UsageError: if there are none, or some in between are missing.
    """
    found = [NAME.fullmatch(path.name) for path in (folder / REPLAY).glob("records-*")]
    chunks = sorted((int(name[1]), int(name[2])) for name in found if name)
    if not chunks:
        raise UsageError(f"{folder} holds no records: give the run_dir of a run that wrote a checkpoint")
    first, last = chunks[0]
    for start, stop in chunks:
        if start > last:
            raise UsageError(f"{folder / REPLAY} lacks the records {last} to {start - 1}: restore the missing file")
        last = max(last, stop)
    return range(first, last)


def stream_records(folder: Path, num_envs: int = 1) -> Iterator[TensorDictBase]:
    """All records on disk in parts [n], the oldest first; each part begins with the first environment.

    Raises:
        UsageError: if there are none, or a file is missing or damaged.
    """
    numbers, step = record_range(folder), AT_ONCE - AT_ONCE % num_envs
    for start in numbers[::step]:
        yield read_records(folder, start, min(start + step, numbers.stop))


def stream_episodes(folder: Path, num_envs: int = 1) -> Iterator[tuple[TensorDictBase, bool]]:
    """Cut the records on disk into episodes, those of an environment in the order in which they were played.

    Yields:
        An episode's records [t], and whether it ended; the last one of each environment may go on. The first one of
        each may have begun before the oldest record.

    Raises:
        UsageError: if there are none, or a file is missing or damaged.
    """
    begun: list[list[TensorDictBase]] = [[] for _ in range(num_envs)]
    for records in stream_records(folder, num_envs):
        for env in range(num_envs):
            own = records[env::num_envs]
            *whole, rest = own.split(_lengths(own["next", "done"].flatten()))
            for episode in whole:
                yield torch.cat([*begun[env], episode]), True
                begun[env] = []
            if len(rest):
                begun[env].append(rest.clone())  # the part that it is a view of may go
    for pieces in begun:
        if pieces:
            yield torch.cat(pieces), False


class RecordedWindows:
    """Stretches of an environment's consecutive records that no end of an episode interrupts.

    Args:
        folder: the run's.
        num_envs: its number of environments.

    Raises:
        UsageError: if there are no records, or a file is missing or damaged.
    """

    def __init__(self, folder: Path, num_envs: int = 1) -> None:
        self._folder, self.num_envs = folder, num_envs
        self._first = record_range(folder).start
        parts = [part["next", "done"].reshape(-1, num_envs) for part in stream_records(folder, num_envs)]
        self._ends = torch.cat(parts)  # [t e]

    @property
    def longest(self) -> int:
        """The most records that a window can have."""
        return max(max(_lengths(ends)) for ends in self._ends.unbind(1))

    def starts(self, length: int) -> Tensor:
        """Return the numbers of all records at which a window of this length can begin, ascending."""
        return window_starts(self._ends, length) + self._first

    def read(self, start: int, length: int) -> TensorDictBase:
        """The window's records [t]."""
        stop = start + (length - 1) * self.num_envs + 1
        return read_records(self._folder, start, stop)[:: self.num_envs]


def window_starts(ends: Tensor, length: int) -> Tensor:
    """Return the first record of every window of ``length`` records that no end interrupts, ascending.

    Args:
        ends: bool ``[t]`` or ``[t e]``, true at the last record of an episode, which may be the last of a window.
        length: of the windows.
    """
    before = torch.cat([torch.zeros_like(ends[:1]), ends]).cumsum(0)  # number of ends before each record
    last = max(0, len(ends) - length + 1)
    return (before[length - 1 : len(ends)] == before[:last]).flatten().nonzero().flatten()


def _lengths(done: Tensor) -> list[int]:
    """From ``done [t]`` the lengths of the episodes that end, and of what is left over."""
    ends = [0, *(done.nonzero().flatten() + 1).tolist(), len(done)]
    return [end - start for start, end in pairwise(ends)]
