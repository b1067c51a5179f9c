"""Offline runs as pictures: the return asked for against the return achieved, and scores against the data's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchrl_glam.offline.results.runs import OfflineResult
from torchrl_glam.offline.results.scaling import ScalingStudy
from torchrl_glam.offline.results.spread import Spread
from torchrl_glam.offline.results.tables import Grid
from torchrl_glam.presentation import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
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


def plot_targets(path: Path, grid: Grid) -> None:
    """Write a PNG with a panel for each dataset of one budget: the return achieved against the return asked for.

    A line is the mean over seeds, its bars their standard deviation; a model that is given no target is a horizontal
    line. Dashed is where both returns are the same; the dotted line is the best return of an episode in the data.

    Raises:
        UsageError: if the file cannot be written.
    """
    figure, panels = make_panels(len(grid.rows))
    for axes, row in zip(panels, grid.rows, strict=True):
        cells = {column: grid.cells[row, column] for column in grid.columns if (row, column) in grid.cells}
        targets = {target for cell in cells.values() for run in cell for target in _targets(run)}
        apart = APART * (max(targets) - min(targets)) if targets else 0.0
        kinds: dict[str, int] = {}
        for place, (column, cell) in enumerate(cells.items()):
            kind = kinds.setdefault(cell[0].model, 0)
            kinds[cell[0].model] += 1
            shift = apart * (place - (len(cells) - 1) / 2)
            _draw_targets(axes, cell, shift, kind % len(DASHES), column)
        runs = [run for cell in cells.values() for run in cell]
        best = next((found for run in runs if (found := best_in_data(run)) is not None), None)
        if best is not None:
            axes.axvline(best, color="black", linestyle=":", linewidth=1, label="best in the data")
        if targets:
            ends = (min(targets), max(targets))
            axes.plot(ends, ends, color="black", linestyle="--", linewidth=1, label="as asked for", zorder=1)
        axes.set(title=row, xlabel="return asked for", ylabel="return achieved")
        axes.grid(alpha=0.3)
    share_legend(figure, panels, last=("as asked for", "best in the data"))
    figure.suptitle(f"Target returns: {grid.title}; bars: standard deviation over seeds", fontsize="medium")
    save_figure(figure, path)


def plot_scaling(path: Path, studies: Sequence[ScalingStudy]) -> None:
    """Write a PNG with a panel for each study: the score against the fraction of the data, a line for each size.

    Raises:
        UsageError: if the file cannot be written.
    """
    figure, panels = make_panels(len(studies))
    for axes, study in zip(panels, studies, strict=True):
        for place, (label, line) in enumerate(study.lines.items()):
            fractions = sorted(line)
            spread = [line[fraction].deviation or 0.0 for fraction in fractions]
            means = [line[fraction].mean for fraction in fractions]
            style = {"color": SIZES[place % len(SIZES)], "marker": MARKERS[place % len(MARKERS)], "capsize": 3}
            # Beside each other rather than on top: lines of several sizes share their fractions.
            shifted = [fraction * 1.03 ** (place - (len(study.lines) - 1) / 2) for fraction in fractions]
            axes.errorbar(shifted, means, spread, label=label, **style)
        ticks = sorted({fraction for line in study.lines.values() for fraction in line})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axes.minorticks_off()
        axes.set(title=study.title, xlabel="fraction of the data", ylabel=study.unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle("Bars: standard deviation over seeds", fontsize="medium")
    save_figure(figure, path)


def best_in_data(run: OfflineResult) -> float | None:
    """The best return of an episode in the data, worked out of what the targets are fractions of.

    ``target = low + fraction (best - low)``: the target at fraction 1, or the line through two others.
    """
    known = sorted(
        {
            (entry.fraction, entry.target_return)
            for entry in run.evaluations
            if entry.fraction is not None and entry.target_return is not None
        }
    )
    for fraction, target in known:
        if fraction == 1:
            return target
    if len(known) < 2:
        return None
    (first, low), (last, high) = known[0], known[-1]
    return None if first == last else low + (1 - first) / (last - first) * (high - low)


def achieved(cell: Sequence[OfflineResult]) -> dict[float | None, Spread]:
    """The return achieved at each target, over seeds, from the lowest; ``None`` is no target."""
    means: dict[float | None, list[float]] = {}
    for run in cell:
        for entry in run.evaluations:
            means.setdefault(entry.target_return, []).append(entry.mean)
    ordered = sorted(means, key=lambda target: (target is not None, target or 0.0))
    return {target: Spread.of(means[target]) for target in ordered}


def _targets(run: OfflineResult) -> list[float]:
    """The run's target returns; behaviour cloning takes no notice of one."""
    targets = [entry.target_return for entry in run.evaluations if run.model != "bc"]
    return [target for target in targets if target is not None]


def _draw_targets(axes: Any, cell: Sequence[OfflineResult], shift: float, kind: int, label: str) -> None:
    """Draw the line of a model's ``kind``, with its points shifted along the axis of targets."""
    base, marker = STYLES[cell[0].model]
    share, end = abs(SHADES[kind]), 0 if SHADES[kind] < 0 else 255
    colour = "#" + "".join(f"{round((1 - share) * part + share * end):02x}" for part in bytes.fromhex(base[1:]))
    options = {"label": label, "linestyle": DASHES[kind]}
    if not _targets(cell[0]):
        score = Spread.of(run.mean for run in cell)
        axes.axhline(score.mean, color=colour, **options)
        if score.deviation:
            ends = (score.mean - score.deviation, score.mean + score.deviation)
            axes.axhspan(*ends, color=colour, alpha=0.15, linewidth=0)
        return
    spreads = {target: spread for target, spread in achieved(cell).items() if target is not None}
    means, bars = [spread.mean for spread in spreads.values()], [spread.deviation or 0.0 for spread in spreads.values()]
    axes.errorbar(
        [target + shift for target in spreads], means, bars, color=colour, marker=marker, capsize=3, **options
    )
