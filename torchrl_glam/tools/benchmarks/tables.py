"""The measurements of the variants as Markdown."""

from __future__ import annotations

import datetime
import importlib.util
import platform
from collections.abc import Callable

import torch

from torchrl_glam.machine.resources import cpu_name
from torchrl_glam.presentation import NOTHING, markdown
from torchrl_glam.runs.provenance import package_version
from torchrl_glam.tools.benchmarks.components import WHOLE
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant
from torchrl_glam.tools.benchmarks.timing import show_number, show_time, time_table
from torchrl_glam.tools.benchmarks.variants import Results, VariantResult

EMPTY = f"{NOTHING} | {NOTHING}"  # two columns


def header(config: BenchmarkConfig, device: torch.device, command: str) -> str:
    """Return command, hardware, versions, date and sizes."""
    packages = ["torch", "torchrl", "tensordict", *(["triton"] if importlib.util.find_spec("triton") else [])]
    versions = ", ".join(f"{package} {package_version(package)}" for package in packages)
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
            f"Medians of torch.utils.benchmark, {config.seconds:g} s per row at most, but 3 calls.",
        ]
    )


def component_tables(results: Results) -> str:
    """Return times with their ratio to the baseline ``sliding``; FLOPs and their rate; memory and shares."""
    times = {variant.value: result.times for variant, result in results.items()}
    return "\n\n".join(
        [time_table("component", times, Variant.sliding.value), _flop_table(results), _other_table(results)]
    )


def _flop_table(results: Results) -> str:
    """Return a row per component: FLOPs of matrix products and convolutions, and the rate achieved."""

    def cell(result: VariantResult, name: str) -> str:
        flops = result.flops[name] / 1e9
        return f"{show_number(flops)} | {show_number(flops / result.times[name].median)}" if flops else EMPTY

    titles = ["component", *(f"{variant.value}: GFLOP | GFLOP/s" for variant in results)]
    names = next(iter(results.values())).times
    return markdown(titles, [[name, *(cell(result, name) for result in results.values())] for name in names])


def _other_table(results: Results) -> str:
    """Return the rate of whole steps, memory, the update's time outside matrices, and the time of the first calls."""
    cells: dict[str, Callable[[VariantResult], str]] = {
        "whole steps per second": lambda result: show_number(1 / result.times[WHOLE].median),
        "peak memory of a whole step": lambda result: (
            NOTHING if result.peak_memory is None else f"{result.peak_memory / 2**30:.2f} GiB"
        ),
        "world-model update: time outside convolutions and matrix products": lambda result: (
            f"{result.share_outside:.0%}"
        ),
        "first calls, all components together": lambda result: show_time(result.first_calls),
    }
    rows = [[name, *map(cell, results.values())] for name, cell in cells.items()]
    return markdown(["", *(variant.value for variant in results)], rows)
