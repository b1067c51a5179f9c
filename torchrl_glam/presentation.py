"""Figures and tables: the colours, the layout of panels, Markdown, CSV. The only module that imports matplotlib.

matplotlib and pandas are optional, so this module imports neither when it is imported. It does without pyplot: a
``Figure`` of its own leaves no state behind and needs no display.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchrl_glam.runs.files import write_file

if TYPE_CHECKING:
    import pandas as pd

has_matplotlib = find_spec("matplotlib") is not None
"""True if pictures can be drawn; matplotlib comes with ``pip install "torchrl_glam[report]"``."""

# Okabe and Ito's colours, which colour-blind readers can tell apart. A marker beside each one helps in grey print.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
BLACK, GREY = "#000000", "#7f7f7f"

LETTER, LINE, SAMPLE = 0.085, 0.22, 0.6  # inches of a legend: a letter's width, a line's height, the drawn sample
COLUMNS = 3  # panels in a row, at most

FORMULA = re.compile(r"[=@\t\r]|[+-](?!$|[\d.]+([eE][+-]?\d+)?$|inf$)")
"""The beginning of a spreadsheet's formula: not that of a number, or :data:`NOTHING`."""

NOTHING = "-"
"""The text of a cell without a value."""


def make_figure(width: float, height: float) -> Any:
    """Make an empty ``matplotlib.figure.Figure`` with constrained layout; sizes in inches."""
    from matplotlib.figure import Figure  # of the extra [report]

    return Figure(figsize=(width, height), layout="constrained")


def make_panels(
    number: int, *, columns: int = COLUMNS, size: tuple[float, float] = (4.2, 3.8)
) -> tuple[Any, list[Any]]:
    """Make a figure with ``number`` panels in rows of at most ``columns``; the rest of the last row stays empty.

    Args:
        number: of panels.
        columns: panels in a row, at most; with the default, four panels make a square.
        size: width and height of a panel, in inches.

    Returns:
        The figure, and its panels row by row.
    """
    columns = 2 if number == 4 and columns == COLUMNS else min(number, columns)
    rows = -(-number // columns)
    figure = make_figure(max(6.0, size[0] * columns), size[1] * rows + 0.6)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[number:]:
        axes.set_axis_off()
    return figure, panels[:number]


def share_legend(figure: Any, panels: list[Any], *, last: tuple[str, ...] = ()) -> None:
    """Draw one legend below all panels, which makes the figure as much higher; the ``last`` entries come at its end."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for label in last:
        if label in handles:
            handles[label] = handles.pop(label)
    if not handles:
        return
    width, height = figure.get_size_inches()
    labels = [textwrap.fill(label, int((width - SAMPLE) / LETTER)) for label in handles]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(len(labels), 5, int(width / (SAMPLE + LETTER * longest))))
    lines = max(label.count("\n") + 1 for label in labels) * -(-len(labels) // columns)
    figure.set_size_inches(width, height + LINE * lines)
    figure.legend(handles.values(), labels, loc="outside lower center", ncols=columns)


def legend_below(axes: Any) -> None:
    """Draw the legend of one panel of several below it, where it covers no curve."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG, completely or not at all.

    Raises:
        UsageError: if the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_file(path, picture.getvalue())


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; a title or cell that holds `` | `` is two columns.

    Examples:
        >>> print(markdown(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|---" * (lines[0].count(" | ") + 1) + "|", *lines[1:]])


def frame_markdown(frame: pd.DataFrame) -> str:
    """Return a pandas DataFrame as a Markdown table, without its index; a missing cell shows :data:`NOTHING`.

    Examples:
        >>> import pandas as pd
        >>> print(frame_markdown(pd.DataFrame({"game": ["Pong", "Boxing"], "score": ["18", None]})))
        | game | score |
        |---|---|
        | Pong | 18 |
        | Boxing | - |
    """
    cells = frame.astype(object).where(frame.notna(), NOTHING).astype(str)
    return markdown(list(map(str, frame.columns)), cells.to_numpy().tolist())


def escape_html(text: str) -> str:
    """Return Markdown in which nothing is an HTML tag, whatever names and paths it holds.

    Examples:
        >>> escape_html("runs/<script> > random")
        'runs/&lt;script> > random'
    """
    return text.replace("<", "&lt;")


def guard_formula(cell: Any) -> Any:
    """Return a CSV file's cell with a quote before what a spreadsheet would compute; other cells as they are.

    Examples:
        >>> [guard_formula(cell) for cell in ("=1+1", "-cmd", "-1.5", "Pong", -2)]
        ["'=1+1", "'-cmd", '-1.5', 'Pong', -2]
    """
    if not isinstance(cell, str | Path) or not FORMULA.match(str(cell)):
        return cell
    return f"'{cell}"


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the text of a CSV file; ``None`` is an empty cell.

    Examples:
        >>> csv_text(["game", "score"], [["Pong", 18.0], ["Boxing", None]])
        'game,score\\nPong,18.0\\nBoxing,\\n'
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(titles)
    table.writerows(map(guard_formula, row) for row in rows)
    return text.getvalue()


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples:
        >>> count(1, "seed"), count(2, "seed")
        ('1 seed', '2 seeds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
