"""What was measured, as Markdown."""

from __future__ import annotations

import datetime
import importlib.util
import platform
from collections.abc import Callable
from importlib.metadata import version

import torch

from torchrl_glam.machine.resources import cpu_name
from torchrl_glam.presentation import NOTHING, markdown
from torchrl_glam.tools.benchmarks.components import WHOLE
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant
from torchrl_glam.tools.benchmarks.scaling import Point
from torchrl_glam.tools.benchmarks.scans import TEXTBOOK
from torchrl_glam.tools.benchmarks.timing import Timing
from torchrl_glam.tools.benchmarks.variants import Results, VariantResult


def header(config: BenchmarkConfig, device: torch.device, command: str) -> str:
    """Command, hardware, versions, date and sizes."""
    packages = ["torch", "torchrl", "tensordict", *(["triton"] if importlib.util.find_spec("triton") else [])]
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    hardware = f"{cpu_name()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        hardware = f"{torch.cuda.get_device_name(device)}; {hardware}"
    replay, imagination = config.replay, config.imagination
    return "\n".join(
        [
            f"```bash\n{command}\n```\n",
            f"{hardware}; {versions}, python {platform.python_version()}; {datetime.date.today()}.",
            f"Preset {config.preset}: batch {replay.batch_size} x {replay.batch_length}, imagination "
            f"{imagination.batch_size} x context {imagination.context_length} x horizon {imagination.horizon}. "
            "Medians of the repeats given (20 s per row at most, but 3 calls).",
        ]
    )


def component_tables(results: Results) -> str:
    """Times with their ratio to the baseline ``sliding``; FLOPs and FLOP/s; memory and shares."""
    parts = [_time_table(results), _flop_table(results), _other_table(results)]
    return "\n\n".join(parts)


def _time_table(results: Results) -> str:
    """One row per component: seconds of each variant, and how many times as fast as ``sliding`` it is."""
    baseline = results.get(Variant.sliding)
    titles = ["component"]
    for variant in results:
        titles += [variant.value] if variant is Variant.sliding else [variant.value, f"sliding / {variant.value}"]
    rows = []
    for name in _component_names(results):
        row = [name]
        for variant, result in results.items():
            row.append(duration(result.timings[name].seconds))
            if variant is not Variant.sliding:
                row.append(ratio(baseline.timings[name] if baseline else None, result.timings[name]))
        rows.append([*row, ", ".join(str(result.timings[name].repeats) for result in results.values())])
    rate = ["whole steps per second"]
    for variant, result in results.items():
        rate += [significant(1 / result.timings[WHOLE].seconds), *([] if variant is Variant.sliding else [""])]
    return markdown([*titles, "repeats"], [*rows, [*rate, ""]])


def _flop_table(results: Results) -> str:
    """One row per component: FLOPs of matrix products and convolutions, and the rate achieved."""
    titles = ["component", *(f"{variant.value}: GFLOP | GFLOP/s" for variant in results)]
    rows = []
    for name in _component_names(results):
        cells = []
        for result in results.values():
            flops, seconds = result.flops[name], result.timings[name].seconds
            cells.append(
                f"{significant(flops / 1e9)} | {significant(flops / seconds / 1e9)}"
                if flops
                else f"{NOTHING} | {NOTHING}"
            )
        rows.append([name, *cells])
    return markdown(titles, rows)


def _other_table(results: Results) -> str:
    """Memory, the world-model update's time outside matrices, and the first calls."""

    def row(name: str, cell: Callable[[VariantResult], str]) -> list[str]:
        return [name, *(cell(result) for result in results.values())]

    return markdown(
        ["", *(variant.value for variant in results)],
        [
            row("peak memory of a whole step", lambda result: gibibytes(result.peak_memory)),
            row(
                "world-model update: time outside convolutions and matrix products",
                lambda result: f"{result.share_outside:.0%}",
            ),
            row("first calls, all components together", lambda result: duration(result.first_calls)),
        ],
    )


def scan_table(results: dict[int, dict[str, Timing]], b: int, d: int, n: int) -> str:
    """One row per length: forward and backward of the textbook scan and of each backend, with the ratio."""
    backends = [name for name in next(iter(results.values())) if name != TEXTBOOK]
    titles = [f"scan, b {b}, d {d}, n {n}", TEXTBOOK]
    for name in backends:
        titles += [name, f"{TEXTBOOK} / {name}"]
    rows = []
    for length, timings in results.items():
        row = [f"t {length}, forward and backward", duration(timings[TEXTBOOK].seconds)]
        for name in backends:
            row += [duration(timings[name].seconds), ratio(timings[TEXTBOOK], timings[name])]
        rows.append([*row, ", ".join(str(timing.repeats) for timing in timings.values())])
    return markdown([*titles, "repeats"], rows)


def scaling_table(points: list[Point]) -> str:
    """One row per point of the picture."""
    rows = [
        [
            point.variant.value,
            str(point.context),
            str(point.horizon),
            duration(point.timing.seconds),
            str(point.timing.repeats),
        ]
        for point in points
    ]
    return markdown(["imagination", "context", "horizon", "time", "repeats"], rows)


def ratio(baseline: Timing | None, timing: Timing) -> str:
    """How many times as long the baseline takes.

    Examples:
        >>> ratio(Timing(3.0, 5), Timing(2.0, 5))
        '1.5x'
    """
    return NOTHING if baseline is None else f"{significant(baseline.seconds / timing.seconds)}x"


def duration(seconds: float) -> str:
    """Three digits and a unit.

    Examples:
        >>> duration(0.01234), duration(12.34)
        ('12.3 ms', '12.3 s')
    """
    if seconds < 1e-3:
        return f"{significant(seconds * 1e6)} us"
    return f"{significant(seconds * 1e3)} ms" if seconds < 1 else f"{significant(seconds)} s"


def gibibytes(size: int | None) -> str:
    """Bytes as GiB."""
    return NOTHING if size is None else f"{size / 2**30:.2f} GiB"


def significant(value: float) -> str:
    """Three digits, or all before the point.

    Examples:
        >>> significant(1234.5), significant(0.012345), significant(12.345)
        ('1234', '0.0123', '12.3')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _component_names(results: Results) -> list[str]:
    return list(next(iter(results.values())).timings)
