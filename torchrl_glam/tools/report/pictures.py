"""The report's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchrl_glam.presentation import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    make_figure,
    make_panels,
    save_figure,
    share_legend,
)
from torchrl_glam.tools.report.aggregates import PanelResult
from torchrl_glam.tools.report.curves import WINDOW, moving_average
from torchrl_glam.tools.report.methods import Method
from torchrl_glam.tools.report.panels import Panel, count
from torchrl_glam.tools.report.references import Scale, benchmark_game
from torchrl_glam.tools.report.statistics import AGGREGATES, Estimate
from torchrl_glam.tools.report.tables import played, show_env

STYLES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (SKY, "P"), (BLACK, "X"))
"""Colour and marker by the method's place; from the eighth method on they come again."""

INTERVAL = "95 % intervals: stratified bootstrap over seeds"
HIGHER, LOWER = "higher is better", "lower is better"

Styles = Mapping[str, tuple[str, str]]


def method_styles(methods: Sequence[Method]) -> dict[str, tuple[str, str]]:
    """The colour and marker of each method, the same in every picture."""
    return {method.label: STYLES[place % len(STYLES)] for place, method in enumerate(methods)}


def plot_games(path: Path, methods: Sequence[Method], scale: Scale, styles: Styles) -> bool:
    """Write a panel for each game: every seed's return in training, and at the end its evaluation.

    Returns:
        Whether there is any curve to draw.

    Raises:
        UsageError: if the file cannot be written.
    """
    by_env: dict[str, list[Method]] = {}
    for method, env in played(methods, scale):
        if any(run.curve for run in method.games[env]):
            by_env.setdefault(env, []).append(method)
    if not by_env:
        return False
    many = len(by_env) > 9
    figure, panels = make_panels(len(by_env), columns=6 if many else 3, size=(3.0, 2.6) if many else (4.2, 3.8))
    for axes, (env, own) in zip(panels, by_env.items(), strict=True):
        for method in own:
            _draw_runs(axes, method, env, styles[method.label])
        _draw_references(axes, env, scale)
        axes.locator_params(axis="x", nbins=3 if many else 5)
        axes.title.set_fontsize("x-small" if many else "small")
    share_legend(figure, panels, last=("random play", "human"))
    protocols = " and ".join(sorted({method.first.protocol for method in methods}))
    figure.suptitle(
        f"Return in training, mean of the last {WINDOW} episodes: a line for each seed; "
        f"markers: its evaluation at the end, protocol {protocols}",
        fontsize="medium",
        wrap=True,
    )
    save_figure(figure, path)
    return True


def plot_aggregates(path: Path, result: PanelResult, styles: Styles) -> None:
    """Write a panel for each aggregate, a row for each method, ours with their intervals.

    Raises:
        UsageError: if the file cannot be written.
    """
    ours, published = list(result.aggregates), list(result.published)
    rows = [*ours, *published]
    figure = make_figure(12, 1.8 + 0.32 * len(rows))
    panels = figure.subplots(1, len(AGGREGATES), sharey=True)
    for axes, name in zip(panels, AGGREGATES, strict=True):
        for row, label in enumerate(ours):
            _draw_estimate(axes, row, result.aggregates[label][name], styles[label])
        if name in ("mean", "median"):
            for row, method in enumerate(published, len(ours)):
                axes.plot(result.published[method][name == "median"], row, "o", color=GREY, markerfacecolor="white")
        axes.set_title(f"{name} ({LOWER if name == 'optimality gap' else HIGHER})", fontsize="small")
        axes.set_xlabel("human-normalised score", fontsize="small")
        axes.grid(alpha=0.3, axis="x")
    names = [f"{label} ({count(result.panel.seeds(label), 'seed')})" for label in ours]
    panels[0].set_yticks(range(len(rows)), [*names, *(f"{method}, published" for method in published)])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(_caption(result.panel, f"{INTERVAL}; hollow: published, one mean per game"), fontsize="medium")
    save_figure(figure, path)


def plot_improvement(path: Path, result: PanelResult) -> None:
    """Write a row for each pair of methods: how probable it is that the first one is better.

    Raises:
        UsageError: if the file cannot be written.
    """
    figure = make_figure(8, 1.6 + 0.4 * len(result.improvement))
    axes = figure.subplots()
    for row, estimate in enumerate(result.improvement.values()):
        _draw_estimate(axes, row, estimate, STYLES[0])
    axes.axvline(0.5, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(result.improvement)), [f"{one}  >  {other}" for one, other in result.improvement])
    axes.set_ylim(len(result.improvement) - 0.5, -0.5)
    axes.set(xlim=(-0.02, 1.02), xlabel="probability that a run of the first beats one of the second in a game")
    axes.grid(alpha=0.3, axis="x")
    figure.suptitle(_caption(result.panel, INTERVAL), fontsize="medium")
    save_figure(figure, path)


def plot_profiles(
    path: Path, panel: Panel, profiles: Mapping[str, list[Estimate]], thresholds: np.ndarray, styles: Styles
) -> None:
    """Write the share of runs above each human-normalised score.

    Raises:
        UsageError: if the file cannot be written.
    """
    lines = {label: (thresholds, profile) for label, profile in profiles.items()}
    labels = ("human-normalised score", "share of runs (games x seeds) above it")
    _plot_lines(path, panel, lines, styles, labels, "Performance profiles")


def plot_efficiency(
    path: Path, panel: Panel, curves: Mapping[str, tuple[np.ndarray, list[Estimate]]], styles: Styles
) -> None:
    """Write the IQM of the return in training against the step.

    Raises:
        UsageError: if the file cannot be written.
    """
    labels = ("environment steps (4 frames each)", f"IQM of the human-normalised\nreturn of the last {WINDOW} episodes")
    _plot_lines(path, panel, curves, styles, labels, "Sample efficiency, in training")


def _plot_lines(
    path: Path,
    panel: Panel,
    lines: Mapping[str, tuple[np.ndarray, list[Estimate]]],
    styles: Styles,
    labels: tuple[str, str],
    title: str,
) -> None:
    figure = make_figure(8, 4.8)
    axes = figure.subplots()
    for label, (places, estimates) in lines.items():
        colour, marker = styles[label]
        seeds = count(panel.seeds(label), "seed")
        values = [estimate.point for estimate in estimates]
        often = max(len(values) // 10, 1)
        axes.plot(places, values, color=colour, marker=marker, markevery=often, label=f"{label} ({seeds})")
        if estimates[0].low is not None:
            low, high = ([float(getattr(one, end)) for one in estimates] for end in ("low", "high"))
            axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, None))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    share_legend(figure, [axes])
    figure.suptitle(f"{title}: {_caption(panel, f'bands: {INTERVAL}')}", fontsize="medium")
    save_figure(figure, path)


def _draw_runs(axes: Any, method: Method, env: str, style: tuple[str, str]) -> None:
    colour, marker = style
    for run in method.games[env]:
        if run.curve:
            axes.plot(*moving_average(run.curve), color=colour, linewidth=1, alpha=0.8, label=_name(method))
        axes.plot(run.total_frames, run.mean, marker=marker, color=colour, markeredgecolor="white", clip_on=False)
    axes.set_xlabel("environment steps", fontsize="small")
    axes.set_ylabel("return", fontsize="small")
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.tick_params(labelsize="small")


def _name(method: Method) -> str:
    """A method and how many seeds it has."""
    seeds = sorted({len(runs) for runs in method.games.values()})
    return f"{method.label} ({count(seeds[0], 'seed') if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]} seeds'})"


def _draw_references(axes: Any, env: str, scale: Scale) -> None:
    """The level of random play; the human one where it does not squeeze the curves."""
    game = benchmark_game(env, scale)
    axes.set_xlim(left=0)
    if game is None:
        axes.set_title(show_env(env))
        return
    reference = scale[game]
    axes.axhline(reference.random, color="black", linestyle=":", linewidth=1, label="random play")
    low, high = axes.get_ylim()
    if low <= reference.human <= high + 0.5 * (high - low):
        axes.axhline(reference.human, color="black", linestyle="--", linewidth=1, label="human")
    axes.set_title(f"{game} (random {reference.random:,g}, human {reference.human:,g})", fontsize="small")


def _draw_estimate(axes: Any, row: int, estimate: Estimate, style: tuple[str, str]) -> None:
    colour, marker = style
    if estimate.low is not None:
        axes.plot(
            [estimate.low, estimate.high], [row, row], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt"
        )
    axes.plot(estimate.point, row, marker=marker, color=colour)


def _caption(panel: Panel, rest: str) -> str:
    """What the picture is of, in two lines."""
    protocols = " and ".join(sorted({method.first.protocol for method in panel.methods}))
    return f"{panel.title}, protocol {protocols}\n{rest}"
