"""The replay on disk: chunks of records, each written once.

A checkpoint names the chunks that it needs, so that it costs what was collected since the last one, not the whole ring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tensordict import TensorDict, TensorDictBase
from torchrl.data import TensorDictReplayBuffer

from torchrl_glam.data.replay import OBSERVATIONS, OTHERS, PackPixels
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.files import METADATA, read_tensors, seal, set_aside, sha256, unseal, write_tensors
from torchrl_glam.runs.foreign import parse_json

REPLAY = "replay"
NEEDED = [key if isinstance(key, str) else ".".join(key) for key in OTHERS]
NAME = re.compile(r"records-(\d{12})-(\d{12})\.safetensors")


class ReplayFiles:
    """Keeps what is written to a replay buffer in files, for ``torchrl.checkpoint``.

    Args:
        replay: the writing view of :func:`torchrl_glam.data.make_replay`.
        folder: of the chunks.
        run_id: of the run; in each chunk, so that no other file is ever removed.
    """

    def __init__(self, replay: TensorDictReplayBuffer, folder: Path, run_id: str) -> None:
        self._replay, self.folder, self._run_id = replay, folder, run_id
        self.chunks: list[dict[str, Any]] = []
        self._own: set[str] = set()  # names of this run's chunks, also of those that an earlier version wrote

    def state_dict(self) -> dict[str, Any]:
        """Write the records that are in no file yet to a new one; return which files hold the ring.

        Raises:
            OSError: if it cannot be written.
        """
        written, capacity = self._replay.writer._write_count, self._replay.storage.max_size
        oldest = max(0, written - capacity)
        start = max(self.chunks[-1]["stop"] if self.chunks else 0, oldest)
        if start < written:
            self.folder.mkdir(exist_ok=True)
            self.chunks.append(self._write(start, written))
        self.chunks = [chunk for chunk in self.chunks if chunk["stop"] > oldest]
        return {"written": written, "capacity": capacity, "chunks": list(self.chunks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the records of the files where they were in the ring.

        Raises:
            DamagedError: if a file is missing or changed.
            UsageError: if the ring has overwritten records and is to grow.
        """
        for chunk in state["chunks"]:
            check_chunk(self.folder, chunk)
        storage, capacity = self._replay.storage, self._replay.storage.max_size
        if state["capacity"] < min(state["written"], capacity):
            raise UsageError(
                f"replay.capacity cannot grow from {state['capacity']} to {capacity} once records were overwritten: "
                "leave it as it was"
            )
        written, held = state["written"], min(state["capacity"], capacity)
        self._replay.empty()
        for chunk in state["chunks"]:
            first = max(chunk["start"], written - held)
            if first < chunk["stop"]:
                records = _read_chunk(self.folder / chunk["file"])[first - chunk["start"] :]
                places = torch.arange(first, chunk["stop"]) % capacity
                storage.set(places, records.to(storage.device))
        self._replay.writer.load_state_dict({"_cursor": written % capacity, "_write_count": written})
        self.chunks = list(state["chunks"])
        self._own |= {chunk["file"] for chunk in self.chunks}

    def prune(self, needed: Iterable[dict[str, Any]]) -> None:
        """Remove this run's files that neither the ring nor one of the ``needed`` states names, unfinished ones too.

        Raises:
            OSError: if one cannot be removed.
        """
        names = {chunk["file"] for state in (*needed, {"chunks": self.chunks}) for chunk in state["chunks"]}
        self._own |= names
        for path in self.folder.glob("*records-*"):
            if path.name not in names and self._is_own(path):
                path.unlink()

    def _is_own(self, path: Path) -> bool:
        """Return True for a file that only this run can have written."""
        if path.is_symlink() or not path.is_file():
            return False
        if path.name.startswith("."):
            return path.name.endswith(f".{self._run_id}.part")
        return NAME.fullmatch(path.name) is not None and (path.name in self._own or _run_of(path) == self._run_id)

    def _write(self, start: int, stop: int) -> dict[str, Any]:
        places = torch.arange(start, stop) % self._replay.storage.max_size
        records = self._replay.storage.get(places).cpu().flatten_keys(".")
        name = f"records-{start:012d}-{stop:012d}.safetensors"
        path, tensors = self.folder / name, {key: entry.contiguous() for key, entry in records.items()}
        if path.exists() and not self._is_own(path):
            set_aside(path)  # somebody else's, or damaged
        write_tensors(path, tensors, seal({"run": self._run_id}, tensors), tag=f".{self._run_id}")
        self._own.add(name)
        return {"file": name, "start": start, "stop": stop, "sha256": sha256(path)}


def _run_of(path: Path) -> str | None:
    """Return the run that a chunk says it is of; None if it says nothing."""
    try:
        with safe_open(path, "pt") as file:
            return str(parse_json((file.metadata() or {})[METADATA])["run"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None


def check_chunk(folder: Path, chunk: dict[str, Any]) -> None:
    """Raise DamagedError if a chunk's file is missing or changed."""
    path = folder / chunk["file"]
    if not path.is_file():
        raise DamagedError(f"{folder.name}/{path.name} is missing")
    if sha256(path) != chunk["sha256"]:
        raise DamagedError(f"{folder.name}/{path.name} is damaged")


def record_range(folder: Path) -> range:
    """Return the numbers of the records on disk.

    Args:
        folder: the run's.

    Raises:
        UsageError: if there are none, or some in between are missing.
    """
    chunks = _find_chunks(folder)
    if not chunks:
        raise UsageError(f"{folder} holds no records: give the run_dir of a run that wrote a checkpoint")
    last = chunks[0][0]
    for start, stop, _ in chunks:
        if start > last:
            raise UsageError(f"{folder / REPLAY} lacks the records {last} to {start - 1}: restore the missing file")
        last = max(last, stop)
    return range(chunks[0][0], last)


def read_records(folder: str | Path, start: int = 0, stop: int | None = None) -> TensorDictBase:
    """Read real records [n] from a run's folder, numbers ``start`` to below ``stop`` of those written, oldest first.

    Their keys are those of :func:`torchrl_glam.data.replay.select_record`. With several environments, record ``i`` is
    of environment ``i % num_envs``.

    Args:
        folder: the run's.
        start, stop: the range; ``stop=None`` means to the last one on disk. What is no longer on disk is left out.

    Raises:
        UsageError: if there are no such records, or a file is damaged.
    """
    chunks = _find_chunks(folder)
    asked, stop = stop, max((end for _, end, _ in chunks), default=0) if stop is None else stop
    parts, reached = [], start
    try:
        for first, end, path in chunks:
            if end > reached and first < stop:
                begin = max(first, reached)
                parts.append(_read_chunk(path)[begin - first : stop - first])
                reached = min(end, stop)
    except DamagedError as error:
        if not path.exists():  # the run that writes here has just removed it
            return read_records(folder, start, asked)
        raise UsageError(f"{folder}: {error}; give start and stop that leave it out") from error
    if not parts:
        raise UsageError(f"{folder} holds no records {start} to {stop}: give the run_dir of a run with checkpoints")
    return PackPixels()(torch.cat(parts))


def _find_chunks(folder: str | Path) -> list[tuple[int, int, Path]]:
    """Return first record, end and file of each chunk of a run, oldest first."""
    named = [(NAME.fullmatch(path.name), path) for path in Path(folder, REPLAY).glob("records-*")]
    return sorted((int(found[1]), int(found[2]), path) for found, path in named if found)


def _read_chunk(path: Path) -> TensorDict:
    """Return the records [n] of a chunk, packed as the ring holds them.

    Raises:
        DamagedError: if it is no chunk, or a bit of it has changed.
    """
    tensors, metadata = read_tensors(path)
    if metadata:  # of an earlier version there is none
        unseal(path, tensors, metadata)
    found = {name: tensors[name] for name in (*OBSERVATIONS, *NEEDED) if name in tensors}
    lengths = {entry.shape[:1] for entry in found.values()}
    complete = found.keys() >= set(NEEDED) and found.keys() & set(OBSERVATIONS)
    if not complete or len(lengths) != 1 or lengths == {torch.Size([])}:
        raise DamagedError(f"{path.name} is damaged, or holds no records")
    return TensorDict(found, batch_size=lengths.pop()).unflatten_keys(".")
