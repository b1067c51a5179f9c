"""What every report writes: Markdown tables, CSV text, files that are whole or not there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchrl_glam.checkpoint.files import write_whole
from torchrl_glam.errors import UsageError

NOTHING = "-"
"""What stands in a cell that has no value."""


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a title or cell that holds `` | `` is two columns.

    Examples:
        >>> print(markdown(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|---" * (lines[0].count(" | ") + 1) + "|", *lines[1:]])


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of a CSV file; ``None`` is an empty cell.

    Examples:
        >>> csv_text(["game", "score"], [["Pong", 18.0], ["Boxing", None]])
        'game,score\\nPong,18.0\\nBoxing,\\n'
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(titles)
    table.writerows(rows)
    return text.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file, and its folder if need be, all of it or nothing.

    Raises:
        UsageError: if it cannot be written; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: temporary.write_bytes(data))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): make room, or choose another folder"
        ) from error
