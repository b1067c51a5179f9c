"""Checkpoints on the disk: listed, verified, and set aside where they are not used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torchrl.checkpoint import CheckpointError

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.checkpoint.manifest import part_folder, read_manifest
from torchrl_glam.runs.checkpoint.replay_files import REPLAY, check_chunk
from torchrl_glam.runs.checkpoint.state_file import STATE, read_state
from torchrl_glam.runs.files import check_sums

CHECKPOINTS, PREFIX = "checkpoints", "checkpoint"
NAME = re.compile(rf"{PREFIX}-[0-9]{{1,18}}")
BEST = "train_return"  # the entry of a manifest that tells the best one
UNREADABLE = (CheckpointError, OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""The errors of torchrl 0.14.1 for a manifest that is none."""


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, damaged ones too but no links, the newest first."""
    named = (path for path in folder.glob(f"{PREFIX}-*") if NAME.fullmatch(path.name) and not path.is_symlink())
    return sorted(named, key=frame_of, reverse=True)


def frame_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's name gives."""
    return int(checkpoint.name.split("-")[-1])


def find_best(checkpoints: Iterable[Path]) -> Path | None:
    """Return the checkpoint with the highest return in training, the newest of several; None if none has one."""
    returns = {path: value for path in checkpoints if (value := _train_return(path)) is not None}
    return max(returns, key=lambda path: (returns[path], frame_of(path)), default=None)


def _train_return(checkpoint: Path) -> float | None:
    try:
        value = read_manifest(checkpoint)["metadata"].get(BEST)
    except UNREADABLE:
        return None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def verify(path: Path, run_id: str) -> dict[str, Any]:
    """Check every byte of a checkpoint and of the chunks of the replay that it names; return its metadata.

    Raises:
        DamagedError: if anything is missing, changed or another run's.
    """
    check_sums(path)
    if run_id_of(path) != run_id:
        raise DamagedError("it is another run's")
    manifest = read_manifest(path)
    if "replay" in manifest["components"]:
        state = read_state(find_part(path, "replay") / STATE)
        try:
            for chunk in state["chunks"]:
                check_chunk(path.parents[1] / REPLAY, chunk)
        except (KeyError, TypeError) as error:
            raise DamagedError("its list of records is damaged") from error
    return manifest["metadata"]


def run_id_of(path: Path) -> str:
    """Return the run that a checkpoint says it is of.

    Raises:
        DamagedError: if it says nothing.
    """
    try:
        return str(read_manifest(path)["metadata"]["run"])
    except UNREADABLE as error:
        raise DamagedError("manifest.json is no checkpoint's of ours") from error


def find_part(checkpoint: Path, name: str) -> Path:
    """Return the folder of one part of a checkpoint.

    Raises:
        DamagedError: if there is no such part.
    """
    try:
        return part_folder(checkpoint, name)
    except UNREADABLE as error:
        raise DamagedError(f"{checkpoint.name} has no {name}") from error


def replay_state(checkpoint: Path) -> dict[str, Any] | None:
    """Return the state of the replay in a checkpoint, or None if it is damaged."""
    try:
        state = read_state(find_part(checkpoint, "replay") / STATE)
    except DamagedError:
        return None
    return state if isinstance(state, dict) and "chunks" in state else None
