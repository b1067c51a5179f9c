"""The cost of one action after 5, 10, 20, .. steps: MambaDM's carried state, its window, the Transformer's window.

    OMP_NUM_THREADS=1 python examples/benchmark_acting.py out=results/offline

The state costs the same after any number of steps, a window costs more for each step that it holds. Ratios are to the
Transformer's window of 20 steps in the same process. Writes acting.csv and acting.png; one thread, untrained networks.
With `update=true`, an update of each model by windows of 20 and 60 steps comes first: updates.csv, ratios to the
Transformer's with the same window.
Needs the extra `[offline]`; the picture needs `[report]`.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import datetime
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from torchrl_glam import presentation as figures
from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError, check_least, make_writable
from torchrl_glam.machine.resources import cpu_name
from torchrl_glam.offline import benchmark as acting
from torchrl_glam.offline import benchmark_updates as updates
from torchrl_glam.runs.files import write_file

FEWEST = 5  # steps; each context is twice the last


@dataclass
class ActingOptions:
    """Sizes of the measurement, and the folder of its results."""

    out: str = "results/offline"  # folder of acting.csv and acting.png
    update: bool = False  # measure updates too
    update_batch: int = 64  # windows of an update
    longest: int = 320  # context in steps, at least 20; from 5 on they double
    batch: int = 10  # environments side by side, beside the measurement with one
    observation_size: int = 11  # Hopper's
    action_size: int = 3  # Hopper's
    width: int = 128  # of both models
    num_layers: int = 3  # of both models
    num_heads: int = 1  # of the Transformer
    rounds: int = 5  # through all points; the medians count
    seconds: float = 0.2  # of calls at least, for each point in a round


@small_command(ActingOptions)
def main(options: ActingOptions) -> None:
    """Time one action of untrained offline models after more and more steps, on one thread."""
    least = ("batch", "observation_size", "action_size", "width", "num_layers", "num_heads", "rounds")
    check_least(options, dict.fromkeys(least, 1))
    if not 0 < options.seconds < float("inf"):
        raise UsageError(f"seconds={options.seconds}: give a number above 0")
    if options.longest < acting.BASELINE_CONTEXT:
        raise UsageError(f"longest={options.longest}: give at least {acting.BASELINE_CONTEXT}, the baseline's context")
    table, picture = (make_writable("out", Path(options.out) / f"acting.{kind}") for kind in ("csv", "png"))
    torch.set_num_threads(1)
    machine = f"{cpu_name()}, 1 thread; torch {version('torch')}; {datetime.date.today()}"
    if options.update:
        measure_updates(options, machine)
    contexts = [FEWEST * 2**power for power in range(16) if FEWEST * 2**power <= options.longest]
    left_out = ("out", "longest", "batch", "update", "update_batch")
    sizes = {name: value for name, value in vars(options).items() if name not in left_out}
    points = acting.measure_acting(contexts, sorted({1, options.batch}), **sizes, progress=print)
    size = f"width {options.width}, {options.num_layers} layers; medians of {options.rounds} rounds"
    print(f"{machine}; {size}\n\n{acting.acting_table(points)}\n")
    write_file(table, points.to_csv(index=False, float_format="%.6g").encode())
    if figures.has_matplotlib:
        acting.plot_acting(picture, points, f"{machine}\n{size}; bands: lowest and highest round")
        print(f"{table}, {picture}")
    else:
        print(f'{table}; no picture: matplotlib is missing, pip install "torchrl_glam[report]"')


def measure_updates(options: ActingOptions, machine: str) -> None:
    """Time an update of each model, print the table and write updates.csv."""
    table = make_writable("out", Path(options.out) / "updates.csv")
    names = ("observation_size", "action_size", "width", "num_layers", "num_heads", "rounds")
    sizes = {name: getattr(options, name) for name in names}
    points = updates.measure_updates(batch=options.update_batch, **sizes, progress=print)
    size = f"width {options.width}, {options.num_layers} layers, {options.update_batch} windows"
    print(f"{machine}; {size}; medians of {options.rounds} rounds\n\n{updates.updates_table(points)}\n")
    write_file(table, points.to_csv(index=False, float_format="%.6g").encode())


if __name__ == "__main__":
    main()
