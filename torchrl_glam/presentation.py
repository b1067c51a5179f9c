"""Figures by matplotlib, an optional package: the one place that imports it, its colours, its files.

No pyplot: a ``Figure`` of its own leaves no state behind and needs no display.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torchrl_glam.runs.files import write_file

has_matplotlib = find_spec("matplotlib") is not None
"""Whether there is what draws; it comes with ``pip install "torchrl_glam[report]"``."""

# Okabe and Ito's colours, which the colour-blind tell apart too. A marker beside each prints in grey as well.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
BLACK, GREY = "#000000", "#7f7f7f"

COLUMNS = 3  # panels beside each other, at most


def make_figure(width: float, height: float) -> Any:
    """An empty ``matplotlib.figure.Figure`` of so many inches, whose parts make room for each other."""
    from matplotlib.figure import Figure  # of the extra [report]

    return Figure(figsize=(width, height), layout="constrained")


def make_panels(
    number: int, *, columns: int = COLUMNS, size: tuple[float, float] = (4.2, 3.8)
) -> tuple[Any, list[Any]]:
    """A figure with so many panels in rows of at most ``columns``; the rest of the last row stays empty.

    Args:
        number: of panels.
        columns: beside each other, at most; four stand in a square where three are.
        size: width and height of a panel, in inches.
    """
    columns = 2 if number == 4 and columns == COLUMNS else min(number, columns)
    rows = -(-number // columns)
    figure = make_figure(max(6.0, size[0] * columns), size[1] * rows + 0.6)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[number:]:
        axes.set_axis_off()
    return figure, panels[:number]


def share_legend(figure: Any, panels: list[Any], *, last: tuple[str, ...] = ()) -> None:
    """One legend below all panels; entries named ``last`` stand at its end."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for label in last:
        if label in handles:
            handles[label] = handles.pop(label)
    width, _ = figure.get_size_inches()
    columns = 5 if width > 10 else 3 if width > 8 else 2
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), columns))


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG, all of it or nothing.

    Raises:
        UsageError: if the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


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
