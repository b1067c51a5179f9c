"""Plot the training returns of runs, or of CSV files (frame, return), as a moving average over episodes.

    python examples/plot_returns.py runs/a runs/b out=curve.png

Needs the extra `[report]`.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import sys
from pathlib import Path

from torchrl_glam.errors import UsageError
from torchrl_glam.machine.invocation import this_command
from torchrl_glam.presentation import make_figure, save_figure, share_legend
from torchrl_glam.tools.report.panels import WINDOW, few_marker, moving_average
from torchrl_glam.tools.report.runs import read_curve


def plot(paths: list[Path], out: Path) -> None:
    """Draw a line for each run folder or CSV file."""
    figure = make_figure(6, 3.5)
    axes = figure.subplots()
    for path in paths:
        curve = read_curve(path / "result.json" if path.is_dir() else path)
        if curve is None:
            raise UsageError(f"{path} has no returns: give run folders or CSV files of frame, return")
        average = moving_average(curve)
        axes.plot(average.index, average, marker=few_marker(average), label=path.stem)
    axes.set(xlabel="environment steps", ylabel=f"return, mean of {WINDOW} episodes")
    axes.grid(alpha=0.3)
    share_legend(figure, [axes])
    save_figure(figure, out)


def main() -> None:
    """Read the paths and the output file from the command line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{(__doc__ or '').splitlines()[0]}\n\n{this_command()} RUNS... out=FILE.png\n")
        return
    outputs = [word.removeprefix("out=") for word in sys.argv[1:] if word.startswith("out=")]
    paths = [Path(word) for word in sys.argv[1:] if not word.startswith("out=")]
    try:
        if not paths or len(outputs) != 1:
            given = " ".join(sys.argv[1:]) or "nothing"
            raise UsageError(f"got {given}: give run folders or CSV files, and out=FILE.png")
        plot(paths, Path(outputs[0]))
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
