"""What an action costs an offline model, against how many steps it has behind it.

``b`` environments that act side by side, ``t`` steps behind them, ``o`` observation size, ``a`` action size.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Measurement, Timer, select_unit, trim_sigfig

from torchrl_glam.errors import UsageError
from torchrl_glam.offline.actor import DecisionTransformerActor, MambaDMActor
from torchrl_glam.offline.base import DecisionActor
from torchrl_glam.presentation import GREEN, SKY, VERMILION, csv_text, make_figure, markdown, save_figure

CARRIED, WINDOW, BASELINE = "MambaDM, carried state", "MambaDM, window", "Transformer, window"
BASELINE_CONTEXT = 20
"""The Decision Transformer's own context, in steps: its window of that length has the ratio 1."""

STYLES = {CARRIED: (GREEN, "o"), WINDOW: (SKY, "^"), BASELINE: (VERMILION, "s")}


@dataclass(frozen=True)
class ActingPoint:
    """Choosing an action after ``context`` steps, ``batch`` environments at once.

    Args:
        way: who acts, and by what.
        batch: ``b``.
        context: ``t``.
        seconds: for one action, that is for a call divided by ``batch``; the median over rounds.
        lowest, highest: of the rounds.
        calls: timed in all rounds together.
    """

    way: str
    batch: int
    context: int
    seconds: float
    lowest: float
    highest: float
    calls: int


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
    progress: Callable[[str], None] = lambda line: None,
) -> list[ActingPoint]:
    """Time one action by MambaDM's carried state, by its window and by the Decision Transformer's window.

    A window is run through the network whole, each step anew; a carried state takes in the step's three tokens. All is
    measured in several rounds, each of which goes through every point, so that a busy moment hits all alike.

    Args:
        contexts: numbers of steps ``t``, :data:`BASELINE_CONTEXT` among them.
        batches: numbers of environments ``b``.
        observation_size, action_size: Hopper's, unless others are given.
        width, num_layers, num_heads: of both models.
        rounds: a point's time is the median over rounds of the median over blocks of calls.
        progress: takes a line before each round.

    Raises:
        UsageError: without the baseline's context, or where a number is below 1.
    """
    _check(contexts, batches, rounds)
    shape = (observation_size,)
    sizes: dict[str, Any] = {"width": width, "num_layers": num_layers}
    with torch.random.fork_rng(devices=[]):
        mamba = MambaDMActor(shape, action_size, **sizes).eval()
        sizes |= {"num_heads": num_heads, "context": max(contexts)}
        transformer = DecisionTransformerActor(shape, action_size, **sizes).eval()
    makers: dict[str, Callable[[int, int], Callable[[], object]]] = {
        CARRIED: lambda b, t: _Carried(mamba, b, t),
        WINDOW: lambda b, t: _Window(mamba, b, t),
        BASELINE: lambda b, t: _Window(transformer, b, t),
    }
    places = [(way, b, t) for way in makers for b in batches for t in contexts]
    seconds: dict[tuple[str, int, int], list[float]] = {place: [] for place in places}
    calls = dict.fromkeys(places, 0)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for way, b, t in places:
            measured = _measure(makers[way], b, t)
            seconds[way, b, t].append(measured.median / b)
            calls[way, b, t] += measured.number_per_run * len(measured.times)
    return [
        ActingPoint(*place, statistics.median(times), min(times), max(times), calls[place])
        for place, times in seconds.items()
    ]


def ratio(points: Sequence[ActingPoint], point: ActingPoint) -> float:
    """The point's time by that of the baseline with the same batch: the Transformer's window of 20 steps."""
    wanted = (BASELINE, point.batch, BASELINE_CONTEXT)
    baseline = next(other for other in points if (other.way, other.batch, other.context) == wanted)
    return point.seconds / baseline.seconds


def acting_table(points: Sequence[ActingPoint]) -> str:
    """A row for each batch and context: the time of an action by each way, and its ratio to the baseline."""
    ways = list(dict.fromkeys(point.way for point in points))
    places = sorted({(point.batch, point.context) for point in points})
    found = {(point.way, (point.batch, point.context)): point for point in points}
    rows = []
    for place in places:
        row = [str(number) for number in place]
        for way in ways:
            point = found[way, place]
            unit, scale = select_unit(point.seconds)
            time, by_baseline = (trim_sigfig(x, 3) for x in (point.seconds / scale, ratio(points, point)))
            row.append(f"{time:g} {unit} ({by_baseline:g}x)")
        rows.append(row)
    return markdown(["batch", "context, steps", *ways], rows)


def acting_csv(points: Sequence[ActingPoint]) -> str:
    """A line for each point, times in seconds for one action."""
    rows = []
    for point in points:
        times = (f"{value:.6g}" for value in (point.seconds, point.lowest, point.highest))
        rows.append([point.way, point.batch, point.context, *times, point.calls, f"{ratio(points, point):.4g}"])
    return csv_text(["way", "batch", "context", "seconds", "lowest", "highest", "calls", "ratio"], rows)


def plot_acting(path: Path, points: Sequence[ActingPoint], note: str = "") -> None:
    """Write a PNG with a panel for each batch: the time of an action against the context, both axes logarithmic.

    Args:
        path: of the file.
        points: of :func:`measure_acting`.
        note: a line above, such as the machine.

    Raises:
        UsageError: if the file cannot be written.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    batches = sorted({point.batch for point in points})
    contexts = sorted({point.context for point in points})
    figure = make_figure(1 + 5 * len(batches), 4.2)
    panels = figure.subplots(1, len(batches), squeeze=False, sharey=True)
    for axes, batch in zip(panels.flat, batches, strict=True):
        for way, (colour, marker) in STYLES.items():
            own = sorted((p for p in points if (p.way, p.batch) == (way, batch)), key=lambda point: point.context)
            place, times = [point.context for point in own], [1e3 * point.seconds for point in own]
            ends = ([1e3 * point.lowest for point in own], [1e3 * point.highest for point in own])
            axes.fill_between(place, *ends, color=colour, alpha=0.2, linewidth=0)
            axes.plot(place, times, color=colour, marker=marker, label=way)
        baseline = 1e3 * next(point.seconds / ratio(points, point) for point in points if point.batch == batch)
        axes.axhline(baseline, color="black", linestyle=":", linewidth=1, zorder=1)
        axes.set(xscale="log", yscale="log", xlabel="context, steps")
        axes.set_xticks(contexts, [str(context) for context in contexts])
        axes.xaxis.set_minor_locator(NullLocator())
        by_baseline = axes.secondary_yaxis("right", (lambda y, one=baseline: y / one, lambda y, one=baseline: y * one))
        for axis in (axes.yaxis, by_baseline.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
        by_baseline.set_ylabel(f"ratio to the Transformer's window of {BASELINE_CONTEXT}")
        environments = "1 environment" if batch == 1 else f"{batch} environments side by side"
        axes.set_title(environments)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
    panels[0, 0].set_ylabel("milliseconds for one action")
    if note:
        figure.suptitle(note, fontsize="small")
    save_figure(figure, path)


class _Window:
    """One action by a window of ``t`` steps, all run through the network."""

    def __init__(self, actor: DecisionActor, b: int, t: int) -> None:
        self.actor = actor
        self.inputs = torch.randn(b, t, *actor.observation_shape), torch.randn(b, t, actor.action_size)
        self.return_to_go, self.time_step = torch.randn(b, t, 1), torch.arange(t).expand(b, t)[..., None]

    def __call__(self) -> torch.Tensor:
        """The newest step's output ``[b a]``."""
        return self.actor(*self.inputs, self.return_to_go, self.time_step)[:, -1]


class _Carried:
    """One action by a memory that ``t - 1`` steps have gone into, and that each call adds a step to."""

    def __init__(self, actor: DecisionActor, b: int, t: int) -> None:
        self.actor, self.memory = actor, actor.initial_memory(b)
        self.observation, self.return_to_go = torch.randn(b, *actor.observation_shape), torch.randn(b, 1)
        self.action, self.time_step = torch.randn(b, actor.action_size), torch.zeros(b, 1, dtype=torch.long)
        for _ in range(t - 1):
            self()

    def __call__(self) -> torch.Tensor:
        """The output ``[b a]``, after which the action is remembered."""
        output, memory = self.actor.observe(self.observation, self.return_to_go, self.time_step, self.memory)
        self.memory = self.actor.remember(self.action, self.time_step, memory)
        self.time_step = self.time_step + 1
        return output


@torch.no_grad()
def _measure(make: Callable[[int, int], Callable[[], object]], b: int, t: int) -> Measurement:
    with torch.random.fork_rng(devices=[]):
        act = make(b, t)
    return Timer("act()", globals={"act": act}, num_threads=torch.get_num_threads()).blocked_autorange()


def _check(contexts: Sequence[int], batches: Sequence[int], rounds: int) -> None:
    if BASELINE_CONTEXT not in contexts:
        raise UsageError(f"contexts {list(contexts)} lack {BASELINE_CONTEXT}, the baseline's: add it")
    for name, numbers in {"contexts": contexts, "batches": batches, "rounds": [rounds]}.items():
        if not numbers or min(numbers) < 1:
            raise UsageError(f"{name} {list(numbers)}: give whole numbers of at least 1")
