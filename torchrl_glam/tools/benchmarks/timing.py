"""Time and matrix FLOPs of a call, by torch.utils.benchmark and torch's counter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch.utils.benchmark import Measurement, Timer, select_unit, trim_sigfig
from torch.utils.flop_counter import FlopCounterMode

from torchrl_glam.presentation import NOTHING, markdown

SECONDS = 20.0
"""Limit of the measurement of a call, in seconds; a long call is measured three times even so."""


def measure(run: Callable[[], object], *, seconds: float = SECONDS, first: float = 0.0, count: int = 1) -> Measurement:
    """Measure a call with ``torch.utils.benchmark``, whose first call warms up.

    It is repeated at least four times, until the interquartile range is less than a tenth of the median, or
    ``seconds`` are over.

    Args:
        run: the call, on the current threads.
        seconds: limit of the measurement, raised where that is too little for three times.
        first: seconds of a call before, if they are known: spares a long call an attempt.
        count: units of work in a call; the times are those of one unit.
    """
    for _ in range(2 if torch.cuda.is_initialized() else 0):  # CUDA graphs are captured late
        run()
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    limit = max(seconds, 2.5 * first)
    while len((measured := timer.adaptive_autorange(max_run_time=limit)).times) < 3:
        limit = 2.5 * measured.mean * measured.number_per_run  # of many calls at once, where the timer itself is slow
    return Measurement(measured.number_per_run * count, measured.raw_times, measured.task_spec)


def show_time(seconds: float) -> str:
    """Return three digits and a unit.

    Examples:
        >>> show_time(0.01234), show_time(12.34)
        ('12.3 ms', '12.3 s')
    """
    unit, scale = select_unit(seconds)
    return f"{show_number(seconds / scale)} {unit}"


def show_number(value: float) -> str:
    """Return three digits.

    Examples:
        >>> show_number(1234.5), show_number(0.012345), show_number(12.345)
        ('1230', '0.0123', '12.3')
    """
    return f"{trim_sigfig(value, 3):g}"


def time_table(title: str, times: dict[str, dict[str, Measurement]], baseline: str) -> str:
    """Return a Markdown table of medians, with their ratios to a baseline of the same run.

    Args:
        title: of the first column.
        times: by column, and then by row.
        baseline: the column to compare with; without it the ratios are empty.
    """
    titles, rows = [title], {name: [name] for name in next(iter(times.values()))}
    for column, measured in times.items():
        titles += [column] if column == baseline else [column, f"{baseline} / {column}"]
        for name, row in rows.items():
            row.append(show_time(measured[name].median))
            if column != baseline and baseline in times:
                row.append(f"{show_number(times[baseline][name].median / measured[name].median)}x")
            elif column != baseline:
                row.append(NOTHING)
    for name, row in rows.items():
        row.append(", ".join(str(len(measured[name].times)) for measured in times.values()))
    return markdown([*titles, "repeats"], list(rows.values()))


def count_flops(run: Callable[[], object]) -> int:
    """Count the floating-point operations of the matrix products and convolutions of one eager call.

    A multiply-add is two. Element-wise and custom operations count nothing.

    Examples:
        >>> layer = torch.nn.Linear(3, 5)
        >>> count_flops(lambda: layer(torch.zeros(2, 3)))
        60
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        run()
    return counter.get_total_flops()


class _NoModules(contextlib.nullcontext):
    """Replaces the counter's list by module, which in torch 2.13 cannot hold a ``TensorDictParams``."""

    parents = ("Global",)

    def __exit__(self, *args: object) -> None:
        """The counter calls this without arguments."""
