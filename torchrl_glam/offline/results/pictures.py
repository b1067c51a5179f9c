"""Offline runs as pictures: the return achieved against the return asked for, and scores against the data's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from torchrl_glam.offline.results.scaling import ScalingStudy
from torchrl_glam.offline.results.spread import Spread
from torchrl_glam.offline.results.tables import group
from torchrl_glam.presentation import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    legend_below,
    make_panels,
    save_figure,
    share_legend,
)

STYLES = {"bc": (GREY, ""), "dt": (VERMILION, "s"), "dmamba": (BLUE, "^"), "mambadm": (GREEN, "o")}
SIZES = (SKY, BLUE, ORANGE, VERMILION, PURPLE, BLACK)
MARKERS = "osD^vP"
DASHES = ("-", "--", ":", "-.")  # kinds of one model, which have its marker and shades of its colour
SHADES = (0.0, -0.5, 0.45, -0.75)  # of black if below 0, else of white
APART = 0.008  # of the axis between two lines' points, so that their bars can be seen


def plot_targets(path: Path, grid: pd.DataFrame, title: str) -> None:
    """Write a PNG with a panel for each dataset of one budget: the return achieved against the return asked for.

    A line is the mean over seeds, its bars their standard deviation; a model that takes no target is a horizontal
    line. Dashed is where both returns are the same; the dotted line is the best return of an episode in the data.

    Args:
        path: of the file.
        grid: of :func:`~torchrl_glam.offline.results.tables.make_grids`.
        title: the budget.

    Raises:
        UsageError: if the file cannot be written.
    """
    rows = list(group(grid, ["row"]))
    kinds = _kinds(grid)
    figure, panels = make_panels(len(rows))
    for axes, ((row,), own) in zip(panels, rows, strict=True):
        cells = {column: cell for (column,), cell in group(own, ["column"])}
        targets = [target for cell in cells.values() for target in achieved(cell).index]
        apart = APART * (max(targets) - min(targets)) if targets else 0.0
        for place, (column, cell) in enumerate(cells.items()):
            shift = apart * (place - (len(cells) - 1) / 2)
            _draw_targets(axes, cell, shift, kinds[column], column)
        best = next((found for run in own["evaluations"] if (found := best_in_data(run)) is not None), None)
        if best is not None:
            axes.axvline(best, color="black", linestyle=":", linewidth=1, label="best in the data")
        if targets:
            ends = (min(targets), max(targets))
            axes.plot(ends, ends, color="black", linestyle="--", linewidth=1, label="as asked for", zorder=1)
        axes.set(title=row, xlabel="return asked for", ylabel="return achieved")
        axes.grid(alpha=0.3)
    share_legend(figure, panels, last=("as asked for", "best in the data"))
    figure.suptitle(f"Target returns: {title}; bars: standard deviation over seeds", fontsize="medium")
    save_figure(figure, path)


def plot_scaling(path: Path, studies: Sequence[ScalingStudy]) -> None:
    """Write a PNG with a panel for each study: the score against the fraction of the data, a line for each size.

    Raises:
        UsageError: if the file cannot be written.
    """
    figure, panels = make_panels(len(studies))
    for axes, study in zip(panels, studies, strict=True):
        for place, (label, line) in enumerate(study.lines.iterrows()):
            line = line.dropna()
            means, bars = [cell.mean for cell in line], [cell.deviation or 0.0 for cell in line]
            style = {"color": SIZES[place % len(SIZES)], "marker": MARKERS[place % len(MARKERS)], "capsize": 3}
            # Beside each other rather than on top: lines of several sizes share their fractions.
            shifted = [fraction * 1.03 ** (place - (len(study.lines) - 1) / 2) for fraction in line.index]
            axes.errorbar(shifted, means, bars, label=label, **style)
        ticks = list(study.lines)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axes.minorticks_off()
        axes.set(title=study.title, xlabel="fraction of the data", ylabel=study.unit)
        axes.grid(alpha=0.3)
        legend_below(axes)
    figure.suptitle("Bars: standard deviation over seeds", fontsize="medium")
    save_figure(figure, path)


def best_in_data(evaluations: Sequence[dict[str, Any]]) -> float | None:
    """Return the best return of an episode in the data, from a run's evaluations, whose targets are fractions of it.

    ``target = low + fraction (best - low)``: the target at fraction 1, or the line through two others.
    """
    places = {(entry["fraction"], entry["target_return"]) for entry in evaluations}
    known = sorted(place for place in places if None not in place)
    for fraction, target in known:
        if fraction == 1:
            return target
    if len(known) < 2:
        return None
    (first, low), (last, high) = known[0], known[-1]
    return None if first == last else low + (1 - first) / (last - first) * (high - low)


def achieved(cell: pd.DataFrame) -> pd.Series:
    """Return the :class:`Spread` over seeds of the return at each target; empty for a model that takes no target."""
    taken = cell[cell["model"] != "bc"]  # behaviour cloning is asked for the highest target, and ignores it
    entries = [entry for evaluations in taken["evaluations"] for entry in evaluations]
    means: dict[float, list[float]] = {}
    for entry in entries:
        if entry["target_return"] is not None:
            means.setdefault(entry["target_return"], []).append(entry["mean"])
    return pd.Series({target: Spread.of(means[target]) for target in sorted(means)}, dtype=object)


def _kinds(grid: pd.DataFrame) -> dict[str, int]:
    """Number the columns of each model, over all panels, so that one has the same style in each."""
    columns = grid.drop_duplicates("column").sort_values("column")
    return dict(zip(columns["column"], group(columns, ["model"]).cumcount(), strict=True))


def _draw_targets(axes: Any, cell: pd.DataFrame, shift: float, kind: int, label: str) -> None:
    """Draw the line of a model's ``kind``, with its points shifted along the axis of targets.

    Four kinds differ in dashes and shade; the next four also have hollow markers; a ninth is like the first.
    """
    base, marker = STYLES[cell["model"].iloc[0]]
    turn, kind = divmod(kind, len(DASHES))
    share, end = abs(SHADES[kind]), 0 if SHADES[kind] < 0 else 255
    colour = "#" + "".join(f"{round((1 - share) * part + share * end):02x}" for part in bytes.fromhex(base[1:]))
    options = {"label": label, "linestyle": DASHES[kind]} | ({"markerfacecolor": "white"} if turn % 2 else {})
    spreads = achieved(cell)
    if spreads.empty:
        score = Spread.of(cell["mean"])
        axes.axhline(score.mean, color=colour, **options)
        if score.deviation:
            ends = (score.mean - score.deviation, score.mean + score.deviation)
            axes.axhspan(*ends, color=colour, alpha=0.15, linewidth=0)
        return
    means, bars = [spread.mean for spread in spreads], [spread.deviation or 0.0 for spread in spreads]
    axes.errorbar(spreads.index + shift, means, bars, color=colour, marker=marker, capsize=3, **options)
