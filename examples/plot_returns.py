"""Plot the training returns of runs, or of CSV files (frame, return), as a moving average over episodes.

pip install -e ".[report]"
python examples/plot_returns.py runs/a runs/b out=curve.png
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

WINDOW = 10  # episodes


def read_returns(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames and returns of a run folder or of a CSV file."""
    file = path / "metrics/scalars/train/episode_return.csv" if path.is_dir() else path
    if not file.exists():
        sys.exit(f"error: {file} does not exist: give run folders or CSV files of frame, return")
    rows = np.array([[float(cell) for cell in row] for row in csv.reader(file.open())])
    return rows[:, 0], rows[:, 1]


def main() -> None:
    """Read the paths and the output file from the command line."""
    paths = [Path(word) for word in sys.argv[1:] if not word.startswith("out=")]
    outputs = [word.removeprefix("out=") for word in sys.argv[1:] if word.startswith("out=")]
    if not paths or len(outputs) != 1:
        sys.exit(f"error: got {' '.join(sys.argv[1:]) or 'nothing'}: give run folders or CSV files, and out=FILE.png")
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for path in paths:
        frames, returns = read_returns(path)
        window = min(WINDOW, len(returns))
        average = np.convolve(returns, np.ones(window) / window, mode="valid")
        axes.plot(frames[window - 1 :], average, label=path.stem)
    axes.set(xlabel="environment steps", ylabel=f"return, mean of {WINDOW} episodes")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(outputs[0], dpi=120)


if __name__ == "__main__":
    main()
