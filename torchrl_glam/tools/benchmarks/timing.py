"""Seconds, matrix FLOPs and peak memory of a call."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

LEAST_REPEATS = 3  # however long a call takes
BUDGET = 20.0  # seconds, after which only the least number of repeats is completed
SHORTEST, MORE = 0.2, 10  # seconds that the calls are to last together, or else this many times their number


@dataclass(frozen=True)
class Timing:
    """The median of ``repeats`` calls, in seconds."""

    seconds: float
    repeats: int


def synchronize(device: torch.device) -> None:
    """Wait for the device's queued work; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Seconds of wall clock since it was made, with all the work queued meanwhile and none of the work before."""

    def __init__(self, device: torch.device) -> None:
        synchronize(device)
        self.device, self.began = device, time.perf_counter()

    def seconds(self) -> float:
        """Time passed."""
        synchronize(self.device)
        return time.perf_counter() - self.began


def measure(
    run: Callable[[], object],
    device: torch.device,
    *,
    repeats: int = 10,
    budget: float = BUDGET,
    first: float | None = None,
) -> Timing:
    """The median time of a call that has been warmed up.

    Args:
        run: what to time.
        device: synchronised before and after each call.
        repeats: calls, unless ``budget`` seconds pass earlier (3 at least) or all are over in a moment (more).
        budget: seconds.
        first: seconds of a call before, to be counted as one of the repeats.
    """
    seconds = [] if first is None else [first]
    began = time.perf_counter() - sum(seconds)
    least = min(LEAST_REPEATS, repeats)
    while True:
        watch = Stopwatch(device)
        run()
        seconds.append(watch.seconds())
        passed = time.perf_counter() - began
        enough = len(seconds) >= repeats and (passed > SHORTEST or len(seconds) >= MORE * repeats)
        if len(seconds) >= least and (enough or passed > budget):
            return Timing(statistics.median(seconds), len(seconds))


def warm_up(run: Callable[[], object], device: torch.device) -> None:
    """Call once, on CUDA three times: graphs are captured late."""
    for _ in range(3 if device.type == "cuda" else 1):
        run()


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of one eager call.

    PyTorch's counter: a multiply-add is two. Element-wise and custom operations count nothing.

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
    """In place of the counter's list by module, which in torch 2.13 cannot hold a ``TensorDictParams``."""

    parents = ("Global",)

    def __exit__(self, *args: object) -> None:
        """The counter calls this without arguments."""
