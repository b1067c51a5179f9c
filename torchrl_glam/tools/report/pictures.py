"""The report's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from torchrl_glam import presentation as figures
from torchrl_glam.presentation import count, make_figure
from torchrl_glam.tools.report.panels import (
    IMPROVEMENT,
    WINDOW,
    Lines,
    Panel,
    few_marker,
    learning_curves,
    moving_average,
    profiles,
)
from torchrl_glam.tools.report.statistics import AGGREGATES
from torchrl_glam.tools.report.tables import span

COLOURS = (figures.BLUE, figures.VERMILION, figures.GREEN, figures.ORANGE, figures.PURPLE, figures.SKY, figures.BLACK)
MARKERS, LINES = "os^DvPX", ("-", "--", ":", "-.")
STYLES = tuple(
    (COLOURS[place % 7], MARKERS[(place + place // 7) % 7], LINES[place // 7]) for place in range(7 * len(LINES))
)
"""Colour, marker and line of each method in turn: the colours repeat from the eighth on, with others of these."""

PICTURES = {
    "aggregates": "aggregates",
    "profiles": "performance profiles",
    "improvement": IMPROVEMENT,
    "efficiency": "sample efficiency",
}
"""File names of a panel's pictures, without their ends, and their headings."""

PROFILES = ("Performance profiles", "human-normalised score", "share of runs (games x seeds) above it")
EFFICIENCY = (
    *("Sample efficiency, in training", "environment steps (4 frames each)"),
    f"IQM of the human-normalised\nreturn of the last {WINDOW} episodes",
)
INTERVAL = "95 % intervals: stratified bootstrap over seeds"

Styles = Mapping[str, tuple[str, str, str]]


def draw(out: Path, runs: pd.DataFrame, panels: list[Panel]) -> tuple[dict[str, str], list[str]]:
    """Write all pictures.

    Args:
        out: a folder.
        runs: the table of :func:`~torchrl_glam.tools.report.methods.tabulate_runs`.
        panels: made of it.

    Returns:
        Headings by file name, and a line for each learning curve that cannot be drawn.

    Raises:
        UsageError: if a file cannot be written.
    """
    styles = {label: STYLES[place % len(STYLES)] for place, label in enumerate(runs["method"].cat.categories)}
    images, notes = {}, []
    if runs["curve"].notna().any():
        figures.save_figure(plot_games(runs, styles), out / "games.png")
        images["games.png"] = "Returns in training, game by game"
    for panel in panels:
        curves, missing = learning_curves(panel)
        notes += missing
        drawn = {
            "aggregates": plot_aggregates(panel, styles),
            "profiles": plot_lines(panel, profiles(panel), styles, *PROFILES),
        }
        if IMPROVEMENT in set(panel.aggregates["quantity"]):
            drawn["improvement"] = plot_improvement(panel)
        if curves:
            drawn["efficiency"] = plot_lines(panel, curves, styles, *EFFICIENCY)
        for name, figure in drawn.items():
            figures.save_figure(figure, out / f"{name}{panel.suffix}.png")
            images[f"{name}{panel.suffix}.png"] = f"{panel.title}: {PICTURES[name]}"
    return images, notes


def plot_games(runs: pd.DataFrame, styles: Styles) -> Any:
    """Draw a panel for each game with a curve: the return in training of every seed, and its evaluation at the end."""
    has_curve = runs["curve"].notna().groupby([runs["env"], runs["method"]], observed=True).transform("any")
    games = runs[has_curve].groupby("env", observed=True)
    many = len(games) > 9
    figure, panels = figures.make_panels(len(games), columns=6 if many else 3, size=(3.0, 2.6) if many else (4.2, 3.8))
    names = {label: _name(label, own) for label, own in runs.groupby("method", observed=True)}
    for axes, (_, own) in zip(panels, games, strict=True):
        for run in own.itertuples():
            _draw_run(axes, run, names[run.method], *styles[run.method])
        axes.set_xlabel("environment steps", fontsize="small")
        axes.set_ylabel("return", fontsize="small")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.tick_params(labelsize="small")
        _draw_references(axes, own.iloc[0])
        axes.locator_params(axis="x", nbins=3 if many else 5)
        axes.title.set_fontsize("x-small" if many else "small")
    figures.share_legend(figure, panels, last=("random play", "human"))
    figure.suptitle(
        f"Return in training, mean of the last {WINDOW} episodes: a line for each seed; "
        f"markers: its evaluation at the end, protocol {_protocols(runs)}",
        fontsize="medium",
        wrap=True,
    )
    return figure


def plot_aggregates(panel: Panel, styles: Styles) -> Any:
    """Draw a panel for each aggregate, with a row for each method; ours have intervals."""
    by_method = panel.aggregates[panel.aggregates["quantity"] != IMPROVEMENT].groupby(["whose", "method"], sort=False)
    figure = make_figure(12, 1.8 + 0.32 * len(by_method))
    panels = dict(zip(AGGREGATES, figure.subplots(1, len(AGGREGATES), sharey=True), strict=True))
    names = []
    for row, ((whose, method), own) in enumerate(by_method):
        ours = whose == "ours"
        names.append(f"{method} ({count(own['seeds'].iloc[0], 'seed')})" if ours else f"{method}, published")
        style = (*styles[method][:2], None) if ours else (figures.GREY, "o", "white")
        for number in own[own["quantity"].isin(AGGREGATES)].itertuples():
            _draw_estimate(panels[number.quantity], row, number, *style)
    for name, axes in panels.items():
        better = "lower is better" if name == "optimality gap" else "higher is better"
        axes.set_title(f"{name} ({better})", fontsize="small")
        axes.set_xlabel("human-normalised score", fontsize="small")
        axes.grid(alpha=0.3, axis="x")
    _name_rows(panels["mean"], names)
    figure.suptitle(_caption(panel, f"{INTERVAL}; hollow: published, one mean per game"), fontsize="medium")
    return figure


def plot_improvement(panel: Panel) -> Any:
    """Draw a row for each pair of methods: the probability that the first one is better."""
    pairs = panel.aggregates[panel.aggregates["quantity"] == IMPROVEMENT]
    figure = make_figure(8, 1.6 + 0.4 * len(pairs))
    axes = figure.subplots()
    for row, pair in enumerate(pairs.itertuples()):
        _draw_estimate(axes, row, pair, *STYLES[0][:2])
    axes.axvline(0.5, color="black", linestyle="--", linewidth=1)
    _name_rows(axes, [pair.replace(" > ", "  >  ") for pair in pairs["method"]])
    axes.set(xlim=(-0.02, 1.02), xlabel="probability that a run of the first beats one of the second in a game")
    axes.grid(alpha=0.3, axis="x")
    figure.suptitle(_caption(panel, INTERVAL), fontsize="medium")
    return figure


def plot_lines(panel: Panel, lines: Lines, styles: Styles, title: str, x_label: str, y_label: str) -> Any:
    """Draw a line for each method, with a band for its intervals."""
    figure = make_figure(8, 4.8)
    axes = figure.subplots()
    for label, (places, estimates) in lines.items():
        points, low, high = estimates.T
        colour, marker, line = styles[label]
        name = f"{label} ({count(len(panel.scores[label]), 'seed')})"
        every = max(len(points) // 10, 1)
        axes.plot(places, points, color=colour, marker=marker, linestyle=line, markevery=every, label=name)
        if not np.isnan(low[0]):
            axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, None))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    figures.share_legend(figure, [axes])
    figure.suptitle(f"{title}: {_caption(panel, f'bands: {INTERVAL}')}", fontsize="medium")
    return figure


def _draw_run(axes: Any, run: Any, name: str, colour: str, marker: str, line: str) -> None:
    if run.curve is not None:
        curve = moving_average(run.curve)
        style = {"color": colour, "linestyle": line, "marker": few_marker(curve)}
        axes.plot(curve.index, curve, linewidth=1, alpha=0.8, label=name, **style)
    axes.plot(run.total_frames, run.mean, marker=marker, color=colour, markeredgecolor="white", clip_on=False)


def _draw_references(axes: Any, run: pd.Series) -> None:
    """Draw the level of random play, and the human one unless it would squeeze the curves."""
    axes.set_xlim(left=0)
    if pd.isna(run["game"]):
        axes.set_title(run["name"])
        return
    axes.axhline(run["random"], color="black", linestyle=":", linewidth=1, label="random play")
    low, high = axes.get_ylim()
    if low <= run["human"] <= high + 0.5 * (high - low):
        axes.axhline(run["human"], color="black", linestyle="--", linewidth=1, label="human")
    axes.set_title(f"{run['game']} (random {run['random']:,g}, human {run['human']:,g})", fontsize="small")


def _draw_estimate(axes: Any, row: int, number: Any, colour: str, marker: str, face: str | None = None) -> None:
    if not np.isnan(number.low):
        ends = [number.low, number.high]
        axes.plot(ends, [row, row], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
    axes.plot(number.value, row, marker=marker, color=colour, markerfacecolor=face or colour)


def _name_rows(axes: Any, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _name(label: str, runs: pd.DataFrame) -> str:
    """Return a method's label with its number of seeds."""
    seeds = span(runs.groupby("env", observed=True).size())
    return f"{label} ({seeds} seed{'' if seeds == '1' else 's'})"


def _protocols(runs: pd.DataFrame) -> str:
    return " and ".join(sorted(set(runs["protocol"])))


def _caption(panel: Panel, rest: str) -> str:
    """Return the games, the protocol and the rest, in two lines."""
    return f"{panel.title}, protocol {_protocols(panel.runs)}\n{rest}"
