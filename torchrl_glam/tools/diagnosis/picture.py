"""A diagnosis as one picture: solid lines for the replay, dashed ones for fresh steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchrl_glam.presentation import BLUE, GREEN, GREY, ORANGE, VERMILION, make_figure, save_figure
from torchrl_glam.tools.diagnosis.diagnose import Diagnosis

STYLES = ("-", "--")
COLOURS = (BLUE, ORANGE, GREEN)


def draw(path: Path, title: str, found: dict[str, Diagnosis]) -> None:
    """Write a PNG file; matplotlib must be there.

    Raises:
        UsageError: if the file cannot be written.
    """
    figure = make_figure(15, 8.5)
    figure.suptitle(title)
    panels = figure.subplots(2, 3).flatten()
    for (source, diagnosis), style in zip(found.items(), STYLES, strict=False):
        for panel, plot in zip(panels, (_events, _means, _frames, _endings, _values, _policy), strict=True):
            plot(panel, diagnosis, source, style)
    for panel in panels:
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    save_figure(figure, path)


def _events(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="rewards foretold", xlabel="imagined steps", ylabel="share", ylim=(-0.02, 1.02))
    _curves(axes, [event for event in found.reward if event.what == "non-zero"], source, style)


def _endings(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="terminations foretold", xlabel="imagined steps", ylabel="share", ylim=(-0.02, 1.02))
    _curves(axes, found.ending, source, style)


def _curves(axes: Any, events: list[Any], source: str, style: str) -> None:
    measures = {
        "recall, +-1 step": lambda event: event.near.recall,
        "precision, +-1 step": lambda event: event.near.precision,
        "ranking": lambda event: event.exact.ranking,
    }
    if not any(event.exact.real for event in events):
        return
    for (name, measure), colour in zip(measures.items(), COLOURS, strict=False):
        points = [(event.step, measure(event)) for event in events if measure(event) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=f"{name} ({source})")


def _means(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="reward per step", xlabel="imagined steps")
    steps = [row.step for row in found.means]
    curves = {name: [getattr(row, name) for row in found.means] for name in ("real", "predicted", "expected")}
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(steps, values, style, color=colour, marker=".", label=f"{name} ({source})")
    dreamt = range(len(found.dream.curve))
    axes.plot(dreamt, found.dream.curve, style, color=VERMILION, label=f"imagined under the policy ({source})")


def _frames(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="error of frames, where they moved", xlabel="steps after the context", ylabel="of 1")
    for name, colour in zip(("reconstructed", "imagined", "context frame"), COLOURS, strict=False):
        points = [(row.step, row.moved[name]) for row in found.frames if row.moved]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=f"{name} ({source})")


def _values(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="value and the return that followed", xlabel="value", ylabel="discounted return")
    if found.value is not None:
        values, returns = zip(*found.value.curve, strict=True)
        axes.plot(values, returns, style, color=BLUE, marker=".", label=f"tenths of steps ({source})")
        ends = [min(*values, *returns), max(*values, *returns)]
        axes.plot(ends, ends, color=GREY, linewidth=0.8)


def _policy(axes: Any, found: Diagnosis, source: str, style: str) -> None:
    axes.set(title="actions in real states", xlabel="action", ylabel="share" if found.policy.most else "mean")
    axes.set_xticks(range(len(found.policy.wanted)))
    actions = {"policy": found.policy.wanted, "taken": found.policy.taken}
    for (name, shares), colour in zip(actions.items(), COLOURS, strict=False):
        axes.step(range(len(shares)), shares, style, where="mid", color=colour, label=f"{name} ({source})")
