"""A diagnosis as one picture: solid lines for the replay, dashed ones for fresh steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torchrl_glam.presentation import BLUE, GREEN, GREY, ORANGE, VERMILION, legend_below, make_figure, save_figure
from torchrl_glam.tools.diagnosis.diagnose import Diagnosis
from torchrl_glam.tools.diagnosis.parts import Event

STYLES = ("-", "--")
COLOURS = (BLUE, ORANGE, GREEN)


def draw(path: Path, title: str, found: dict[str, Diagnosis]) -> None:
    """Write a PNG file by matplotlib, which must be installed.

    Raises:
        UsageError: if the file cannot be written.
    """
    some = next(iter(found.values()))
    observed = [plot for plot, rows in ((_frames, some.frames), (_vector, some.vector)) if rows]
    plots = [_rewards, _means, *observed, _endings, _values, _policy]
    columns = -(-len(plots) // 2)
    figure = make_figure(5 * columns, 11)
    figure.suptitle(title)
    panels = list(figure.subplots(2, columns).flat)
    for panel in panels[len(plots) :]:
        panel.remove()
    panels = panels[: len(plots)]
    for (source, diagnosis), style in zip(found.items(), STYLES, strict=False):
        for panel, plot in zip(panels, plots, strict=True):
            plot(panel, diagnosis, source, style)
    for panel in panels:
        panel.grid(alpha=0.3)
        legend_below(panel)
    save_figure(figure, path)


def _rewards(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    _events(axes, "rewards predicted", [event for event in found.reward if event.what == "non-zero"], source, style)


def _endings(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    _events(axes, "terminations predicted", found.ending, source, style)


def _events(axes: Any, title: str, events: list[Event], source: str, style: str) -> None:
    axes.set(title=title, xlabel="imagined steps", ylabel="share", ylim=(-0.02, 1.02))
    if any(event.exact.real for event in events):
        curves = {
            "recall, +-1 step": [(event.step, event.near.recall) for event in events],
            "precision, +-1 step": [(event.step, event.near.precision) for event in events],
            "ranking": [(event.step, event.exact.ranking) for event in events],
        }
        _curves(axes, curves, source, style)


def _means(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="reward per step", xlabel="imagined steps")
    names = ("real", "predicted", "expected")
    _curves(axes, {name: [(row.step, getattr(row, name)) for row in found.means] for name in names}, source, style)
    axes.plot(found.dream.curve, style, color=VERMILION, label=f"imagined under the policy ({source})")


def _frames(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="error of frames, where they moved", xlabel="steps after the context", ylabel="of 1")
    names = ("reconstructed", "imagined", "context frame")
    _curves(axes, {name: [(row.step, row.moved.get(name)) for row in found.frames] for name in names}, source, style)


def _vector(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="error of vectors", xlabel="steps after the context", ylabel="in standard deviations")
    names = ("reconstructed", "imagined", "context frame")
    _curves(axes, {name: [(row.step, row.whole[name]) for row in found.vector] for name in names}, source, style)


def _values(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="value and the return that followed", xlabel="value", ylabel="discounted return")
    if found.value is not None:
        _curves(axes, {"tenths of steps": found.value.curve}, source, style)
        ends = [end(number for pair in found.value.curve for number in pair) for end in (min, max)]
        axes.plot(ends, ends, color=GREY, linewidth=0.8)


def _policy(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="actions in real states", xlabel="action", ylabel="share" if found.policy.most else "mean")
    axes.set_xticks(range(len(found.policy.wanted)))
    actions = {"policy": found.policy.wanted, "taken": found.policy.taken}
    for (name, shares), colour in zip(actions.items(), COLOURS, strict=False):
        axes.step(range(len(shares)), shares, style, where="mid", color=colour, label=f"{name} ({source})")


def _curves(axes: Any, curves: Mapping[str, Iterable[tuple[float, float | None]]], source: str, style: str) -> None:
    """Draw each curve's points ``(x, y)``, without those whose ``y`` is ``None``."""
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        points = [(x, y) for x, y in curve if y is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=f"{name} ({source})")
