"""CSV files of metrics that only grow: how long they were at a checkpoint, and back to that."""

from __future__ import annotations

import os
from pathlib import Path

from torchrl_glam.runs.files import sync


def metric_lengths(folder: Path) -> dict[str, int]:
    """Flush the CSV files below ``folder`` to the disk; return the bytes of each by its relative path."""
    lengths = {}
    for path in sorted(folder.rglob("*.csv")):
        sync(path)
        lengths[path.relative_to(folder).as_posix()] = path.stat().st_size
    return lengths


def cut_back(folder: Path, lengths: dict[str, int]) -> None:
    """Take off what was written after :func:`metric_lengths`, files that were not there then included."""
    for path in folder.rglob("*.csv"):
        length = lengths.get(path.relative_to(folder).as_posix(), 0)
        if length == 0:
            path.unlink()
        elif length < path.stat().st_size:
            os.truncate(path, length)
