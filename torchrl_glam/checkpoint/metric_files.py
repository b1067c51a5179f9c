"""CSV files of metrics that only grow: how long they were at a checkpoint, and back to that."""

from __future__ import annotations

import os
from pathlib import Path


def metric_lengths(folder: Path) -> dict[str, int]:
    """Bytes of each CSV file below ``folder`` by its relative path."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.csv"))}


def cut_back(folder: Path, lengths: dict[str, int]) -> None:
    """Take off what was written after :func:`metric_lengths`, files that were not there then included."""
    for path in folder.rglob("*.csv"):
        length = lengths.get(path.relative_to(folder).as_posix(), 0)
        if length == 0:
            path.unlink()
        elif length < path.stat().st_size:
            os.truncate(path, length)
