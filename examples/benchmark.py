"""Measure what each part of a training step costs, against the baseline `sliding` in the same process.

    python examples/benchmark.py preset=paper threads=2 out=tables.md
    python examples/benchmark.py report=scaling picture=scaling.png     # imagination by horizon and by context
    python examples/benchmark.py --profile                              # and a trace for chrome://tracing or Perfetto

`sliding` recomputes its window at each imagined step, scans with the sequential reference and compiles nothing; `eager`
and `compiled` are the options given. Encoding and the emulator step are the same in each: a ratio far from 1 there
means that the machine was busy. All options are `key=value`: those of a run (torchrl_glam/config) and those of
torchrl_glam/tools/benchmarks/options.py.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from torchrl_glam.command.cli import command_line, resolve_device
from torchrl_glam.config import GLAMConfig
from torchrl_glam.machine.invocation import this_command
from torchrl_glam.tools.benchmarks import scaling, scans, tables
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Report, check_options
from torchrl_glam.tools.benchmarks.timing import time_table
from torchrl_glam.tools.benchmarks.variants import measure_variants

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def progress(line: str) -> None:
    """Write a line to stderr; stdout is only for the tables."""
    tqdm.write(line, file=sys.stderr)


@command_line(CONFIGS, "benchmark")
def main(config: GLAMConfig) -> None:
    """Measure, print Markdown, write the files asked for."""
    assert isinstance(config, BenchmarkConfig)
    device = resolve_device(config.device)
    check_options(config, device)
    report = {Report.tables: report_variants, Report.scans: report_scans, Report.scaling: report_scaling}[config.report]
    command = f"{this_command()} {shlex.join(sys.argv[1:])}".rstrip()
    parts = [tables.header(config, device, command), *report(config, device)]
    text = "\n\n".join(parts)
    print(text)
    if config.out is not None:
        Path(config.out).write_text(text + "\n")


def report_variants(config: BenchmarkConfig, device: torch.device) -> Iterator[str]:
    """Measure the components of every variant, then scans; then show the trace."""
    results = measure_variants(config, device, progress)
    yield tables.component_tables(results)
    yield from report_scans(config, device)
    if config.profile is not None:
        top = results[config.variants[-1]].top_operations
        yield f"Trace of `{config.variants[-1].value}`: {config.profile}\n\n```\n{top.strip()}\n```"


def report_scans(config: BenchmarkConfig, device: torch.device) -> Iterator[str]:
    """Measure the selective scan at the world model's sizes."""
    options = config.world_model.dynamics
    sizes = (config.replay.batch_size, options.expand * options.width, options.d_state)
    progress("scans")
    title = "scan, b {}, d {}, n {}".format(*sizes)
    yield time_table(title, scans.measure_scans(*sizes, device, seconds=config.seconds), scans.TEXTBOOK)


def report_scaling(config: BenchmarkConfig, device: torch.device) -> Iterator[str]:
    """Measure imagination by horizon and by context; write a picture and its numbers."""
    picture = Path(config.picture)
    points = scaling.measure_scaling(config, device, progress)
    scaling.write_scaling(points, picture.with_suffix(".csv"))
    scaling.draw_scaling(points, config, picture)
    yield scaling.scaling_table(points)
    yield f"![Time of imagination by horizon and by context]({picture})"


if __name__ == "__main__":
    main()
