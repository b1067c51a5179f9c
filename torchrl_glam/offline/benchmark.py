"""The cost of an action of an offline model, by the number of steps behind it.

``b`` environments that act side by side, ``t`` steps behind them, ``o`` observation size, ``a`` action size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.benchmark import Measurement, Timer

from torchrl_glam.errors import UsageError
from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.offline.actor import DecisionTransformerActor, MambaDMActor
from torchrl_glam.offline.base import DecisionActor
from torchrl_glam.presentation import GREEN, SKY, VERMILION, make_figure, markdown, save_figure, share_legend

CARRIED, WINDOW, BASELINE = "MambaDM, carried state", "MambaDM, window", "Transformer, window"
BASELINE_CONTEXT = 20
"""The Decision Transformer's own context, in steps: its window of that length has the ratio 1."""

STYLES = {CARRIED: (GREEN, "o"), WINDOW: (SKY, "^"), BASELINE: (VERMILION, "s")}


def measure_acting(
    contexts: Sequence[int],
    batches: Sequence[int],
    *,
    observation_size: int = 11,
    action_size: int = 3,
    width: int = 128,
    num_layers: int = 3,
    num_heads: int = 1,
    rounds: int = 3,
    seconds: float = 0.2,
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Time one action by MambaDM's carried state, by its window and by the Decision Transformer's window.

    A window runs through the network whole at each step; a carried state takes in the step's three tokens. Each of
    several rounds measures every point with ``torch.utils.benchmark``, so that a busy moment hits all alike.

    Args:
        contexts: numbers of steps ``t``, :data:`BASELINE_CONTEXT` among them.
        batches: numbers of environments ``b``.
        observation_size, action_size: Hopper's by default.
        width, num_layers, num_heads: of both models.
        rounds: through all points.
        seconds: least duration of the calls of a point in a round.
        progress: takes a line before each round.

    Returns:
        A row per ``way``, ``batch`` and ``context``. ``seconds`` are for one action, that is for a call divided by
        ``b``, of the process's CPU time: the median over rounds of each round's median. ``lowest`` and ``highest`` are
        those of the rounds, ``calls`` the number of timed calls, ``ratio`` that to the Transformer's window of 20 steps
        with this batch.

    Raises:
        UsageError: without the baseline's context, or where a number is below 1.
    """
    _check(contexts, batches, rounds)
    shape = (observation_size,)
    sizes: dict[str, Any] = {"width": width, "num_layers": num_layers}
    with kept_generators():
        mamba = MambaDMActor(shape, action_size, **sizes).eval()
        sizes |= {"num_heads": num_heads, "context": max(contexts)}
        transformer = DecisionTransformerActor(shape, action_size, **sizes).eval()
    makers: dict[str, Callable[[int, int], Callable[[], object]]] = {
        CARRIED: lambda b, t: CarriedAction(mamba, b, t),
        WINDOW: lambda b, t: WindowAction(mamba, b, t),
        BASELINE: lambda b, t: WindowAction(transformer, b, t),
    }
    rows = []
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for way, make in makers.items():
            for b in batches:
                for t in contexts:
                    timed = _time(make, b, t, seconds)
                    calls = timed.number_per_run * len(timed.raw_times)
                    rows.append({"way": way, "batch": b, "context": t, "seconds": timed.median, "calls": calls})
    return summarise(pd.DataFrame(rows))


def summarise(timings: pd.DataFrame) -> pd.DataFrame:
    """Summarise calls, a row per round with the seconds of a call, as :func:`measure_acting` returns them."""
    timings = timings.assign(seconds=timings["seconds"] / timings["batch"])
    points = timings.groupby(["way", "batch", "context"], sort=False, as_index=False).agg(
        seconds=("seconds", "median"), lowest=("seconds", "min"), highest=("seconds", "max"), calls=("calls", "sum")
    )
    baseline = points[(points["way"] == BASELINE) & (points["context"] == BASELINE_CONTEXT)]
    return points.assign(ratio=points["seconds"] / points["batch"].map(baseline.set_index("batch")["seconds"]))


def acting_table(points: pd.DataFrame) -> str:
    """Return a row for each batch and context: the time of an action by each way, and its ratio to the baseline."""
    cells = points.assign(
        cell=[f"{format_seconds(s)} ({_digits(r)}x)" for s, r in zip(points["seconds"], points["ratio"], strict=True)]
    )
    table = cells.pivot(index=["batch", "context"], columns="way", values="cell")[list(dict.fromkeys(points["way"]))]
    rows = [[str(batch), str(context), *row] for (batch, context), row in table.iterrows()]
    return markdown(["batch", "context, steps", *table.columns], rows)


def plot_acting(path: Path, points: pd.DataFrame, note: str = "") -> None:
    """Write a PNG with a panel for each batch: the time of an action against the context, both axes logarithmic.

    Args:
        path: of the file.
        points: of :func:`measure_acting`.
        note: a line above, such as the machine.

    Raises:
        UsageError: if the file cannot be written.
    """
    groups = points.groupby("batch")
    figure = make_figure(1 + 5 * len(groups), 4.2)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)
    for axes, (batch, own) in zip(panels.flat, groups, strict=True):
        for way, (colour, marker) in STYLES.items():
            line = own[own["way"] == way].sort_values("context")
            axes.fill_between(
                line["context"], 1e3 * line["lowest"], 1e3 * line["highest"], color=colour, alpha=0.2, linewidth=0
            )
            axes.plot(line["context"], 1e3 * line["seconds"], color=colour, marker=marker, label=way)
        _draw_scales(axes, sorted(set(own["context"])), 1e3 * (own["seconds"] / own["ratio"]).iloc[0])
        axes.set_title("1 environment" if batch == 1 else f"{batch} environments side by side")
        axes.grid(alpha=0.3)
    share_legend(figure, list(panels.flat))
    panels[0, 0].set_ylabel("milliseconds for one action")
    if note:
        figure.suptitle(note, fontsize="small")
    save_figure(figure, path)


def format_seconds(seconds: float) -> str:
    """Return a time with three digits and a unit.

    Examples:
        >>> format_seconds(0.01234), format_seconds(12.34)
        ('12.3 ms', '12.3 s')
    """
    if seconds < 1e-3:
        return f"{_digits(seconds * 1e6)} us"
    return f"{_digits(seconds * 1e3)} ms" if seconds < 1 else f"{_digits(seconds)} s"


class WindowAction:
    """One action by a window of ``t`` steps, all run through the network.

    Args:
        actor: the network.
        b: environments.
        t: steps of the window.
    """

    def __init__(self, actor: DecisionActor, b: int, t: int) -> None:
        self.actor = actor
        self.inputs = torch.randn(b, t, *actor.observation_shape), torch.randn(b, t, actor.action_size)
        self.return_to_go, self.time_step = torch.randn(b, t, 1), torch.arange(t).expand(b, t)[..., None]

    def __call__(self) -> torch.Tensor:
        """Return the newest step's output ``[b a]``."""
        return self.actor(*self.inputs, self.return_to_go, self.time_step)[:, -1]


class CarriedAction:
    """One action by a memory that holds ``t - 1`` steps; each call adds a step to it.

    Args:
        actor: the network.
        b: environments.
        t: the number of the first timed step, counted from 1.
    """

    def __init__(self, actor: DecisionActor, b: int, t: int) -> None:
        self.actor, self.memory = actor, actor.initial_memory(b)
        self.observation, self.return_to_go = torch.randn(b, *actor.observation_shape), torch.randn(b, 1)
        self.action, self.time_step = torch.randn(b, actor.action_size), torch.zeros(b, 1, dtype=torch.long)
        for _ in range(t - 1):
            self()

    def __call__(self) -> torch.Tensor:
        """Return the output ``[b a]``, and remember the action."""
        output, memory = self.actor.observe(self.observation, self.return_to_go, self.time_step, self.memory)
        self.memory = self.actor.remember(self.action, self.time_step, memory)
        self.time_step = self.time_step + 1
        return output


@torch.no_grad()
def _time(make: Callable[[int, int], Callable[[], object]], b: int, t: int, seconds: float) -> Measurement:
    with kept_generators():
        act = make(b, t)
    # The process's own time: whatever else runs on the core does not count.
    timer = Timer("act()", timer=time.process_time, globals={"act": act}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds)


def _draw_scales(axes: Any, contexts: list[int], baseline: float) -> None:
    """Make both axes logarithmic, and draw the baseline and the axis of ratios to it."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.axhline(baseline, color="black", linestyle=":", linewidth=1, zorder=1)
    axes.set(xscale="log", yscale="log", xlabel="context, steps")
    axes.set_xticks(contexts, [str(context) for context in contexts])
    axes.xaxis.set_minor_locator(NullLocator())
    by_baseline = axes.secondary_yaxis("right", (lambda y: y / baseline, lambda y: y * baseline))
    for axis in (axes.yaxis, by_baseline.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    by_baseline.set_ylabel(f"ratio to the Transformer's window of {BASELINE_CONTEXT}")


def _digits(value: float) -> str:
    """Return three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _check(contexts: Sequence[int], batches: Sequence[int], rounds: int) -> None:
    if BASELINE_CONTEXT not in contexts:
        raise UsageError(f"contexts {list(contexts)} lack {BASELINE_CONTEXT}, the baseline's: add it")
    for name, numbers in {"contexts": contexts, "batches": batches, "rounds": [rounds]}.items():
        if not numbers or min(numbers) < 1:
            raise UsageError(f"{name} {list(numbers)}: give whole numbers of at least 1")
