"""Let a run's world model imagine recorded steps: what was real, reconstructed and imagined side by side.

    python examples/imagine.py run_dir=runs/pong
    python examples/imagine.py run_dir=runs/pong steps=32 rows=6 seed=1

Each row of the video begins after a context of recorded frames and is imagined under the actions really taken. Of a
vector there is a picture in place of the video, NAME-traces.png, with a panel over time for each dimension; of pixels
and a vector there are both. The errors of each step are written beside it, as a CSV file and, with matplotlib, as a
picture.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchrl_glam import factory
from torchrl_glam.command.cli import resolve_device
from torchrl_glam.command.options import small_command
from torchrl_glam.config import Device
from torchrl_glam.errors import UsageError, check_least, make_writable
from torchrl_glam.runs.loading import LoadedRun, load_run
from torchrl_glam.runs.records import RecordedWindows
from torchrl_glam.tools.imagination import longest_memory
from torchrl_glam.tools.pictures.comparison import (
    compare_imagination,
    describe_errors,
    draw_comparison,
    plot_errors,
    write_errors,
)
from torchrl_glam.tools.pictures.media import TRACES
from torchrl_glam.tools.pictures.traces import write_traces
from torchrl_glam.tools.pictures.videos import write_video

STEPS = 64


@dataclass
class ImagineOptions:
    """Options of examples/imagine.py."""

    run_dir: str  # folder of a run
    weights: str = "newest"  # newest, or best: the checkpoint with the highest return in training
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    start: int | None = None  # number of the real step to imagine from; null: several, drawn by the seed
    rows: int = 4  # number of starts that are drawn
    steps: int | None = None  # that are imagined; null: 64, or as many as the recorded episodes have
    context: int | None = None  # real steps before them; null: as in training
    seed: int = 0
    device: Device = Device.auto
    out: str | None = None  # GIF file, with the errors beside it; null: run_dir/media/imagination-FRAME-seedSEED.gif
    scale: int = 3  # factor of the frames' enlargement


@small_command(ImagineOptions)
def main(options: ImagineOptions) -> None:
    """Let a run's world model imagine recorded steps, and measure its error at each step."""
    check_least(options, dict.fromkeys(("rows", "steps", "context", "scale"), 1))
    device = resolve_device(options.device)
    run = load_run(options.run_dir, weights=options.weights, device=device, trust=options.trust)
    place = f"seed{options.seed}" if options.start is None else f"start{options.start}-seed{options.seed}"
    out = Path(options.out or run.folder / "media" / f"imagination-{run.frame}-{place}.gif")
    if make_writable("out", out).suffix != ".gif":
        raise UsageError(f"out={out}: give a file that ends in .gif")

    factory.set_seeds(options.seed)
    context = options.context or run.config.imagination.context_length
    windows = RecordedWindows(run.folder, run.config.env.num_envs)
    steps = choose_steps(options.steps, context, run, windows)
    before = context * windows.num_envs
    starts = choose_starts(options, windows.starts(context + steps) + before, f"{context} before and {steps} after it")
    records = torch.stack([windows.read(start - before, context + steps) for start in starts])
    compared = compare_imagination(run.make_imagined_env(), records, context)

    rows = [str(start) for start in starts]
    write_errors(out.with_suffix(".csv"), compared, rows)
    drawn = []
    for key, comparison in compared.items():
        drawn.append(out if key == "pixels" else out.with_name(f"{out.stem}{TRACES}"))
        if key == "pixels":
            write_video(out, draw_comparison(comparison, rows, scale=options.scale), fps=10, scale=1)
        else:
            write_traces(drawn[-1], comparison.frames, rows)
    errors, files = describe_errors(compared), ", ".join(map(str, drawn))
    print(f"{len(rows)} x {steps} steps after {context} real ones, {errors} | {files}")
    if not plot_errors(out.with_suffix(".png"), compared):
        print('the errors are not drawn, matplotlib is missing: pip install "torchrl_glam[report]"')


def choose_steps(wanted: int | None, context: int, run: LoadedRun, windows: RecordedWindows) -> int:
    """Return the option, or as many steps as possible, up to 64."""
    most, reason = windows.longest, "the longest recorded episode has"
    remembered = longest_memory(run.world_model.dynamics)
    if remembered is not None and remembered < most:
        most, reason = remembered, "the backbone remembers"
    if most - context < (wanted or 1):
        advice = f"give steps={most - context} or fewer" if most > context else "give a shorter context"
        raise UsageError(f"steps={wanted or STEPS} after context={context}, but {reason} {most} steps: {advice}")
    return wanted or min(STEPS, most - context)


def choose_starts(options: ImagineOptions, possible: Tensor, wanted: str) -> list[int]:
    """Return the option, or as many of the possible starts as there are to be rows."""
    if options.start is None:
        return possible[torch.randperm(len(possible))[: options.rows]].sort().values.tolist()
    if options.start not in possible:
        nearest = int(possible[(possible - options.start).abs().argmin()])
        raise UsageError(f"start={options.start} has not {wanted} in its episode on disk: try start={nearest}")
    return [options.start]


if __name__ == "__main__":
    main()
