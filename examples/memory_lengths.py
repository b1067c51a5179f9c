"""For how many tokens a trained MambaDM remembers: the distribution of -1 / (dt A), by layer and branch.

    python examples/memory_lengths.py run_dir=runs/hopper out=results/offline

Step sizes dt are the means over windows of the run's dataset. Writes memory_lengths.csv and, with matplotlib,
memory_lengths.png. Three tokens are an environment step.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from pathlib import Path

from torchrl_glam import presentation as figures
from torchrl_glam.command.options import small_command
from torchrl_glam.errors import check_least, make_writable
from torchrl_glam.factory import set_seeds
from torchrl_glam.offline import make_windows
from torchrl_glam.offline.factory import read_dataset
from torchrl_glam.offline.loading import load_decisions
from torchrl_glam.offline.memory_lengths import lengths_table, memory_lengths, plot_lengths
from torchrl_glam.offline.tokens import TOKENS_PER_STEP
from torchrl_glam.runs.files import write_file


@dataclass
class LengthOptions:
    """The run, and the folder of the results."""

    run_dir: str  # folder of a run of examples/mambadm_offline.py
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    root: str | None = None  # folder of Minari datasets; null: the run's
    windows: int = 64  # of the dataset, over which step sizes are averaged
    seed: int = 0  # of the windows
    out: str = "results/offline"  # folder of memory_lengths.csv and memory_lengths.png


@small_command(LengthOptions)
def main(options: LengthOptions) -> None:
    """Draw the distribution of the memory lengths of a trained model, by layer and branch."""
    check_least(options, {"windows": 1})
    table, picture = (make_writable("out", Path(options.out) / f"memory_lengths.{kind}") for kind in ("csv", "png"))
    run = load_decisions(options.run_dir, trust=options.trust)
    run.config.data.root = options.root or run.config.data.root
    set_seeds(options.seed)
    windows = make_windows(read_dataset(run.config), options.windows, run.config.model.context).sample()
    lengths = memory_lengths(run.network, windows)
    rows = lengths_table(lengths)
    print(figures.frame_markdown(rows.round(2)))
    write_file(table, rows.to_csv(index=False, float_format="%.6g").encode())
    if not figures.has_matplotlib:
        print(f'{table}; no picture: matplotlib is missing, pip install "torchrl_glam[report]"')
        return
    marks = {"a window": float(TOKENS_PER_STEP * run.config.model.context)}
    if (piece := getattr(run.config.model, "local_length", None)) is not None:
        marks["a piece of the local branch"] = float(piece)
    note = f"{run.config.dataset}, {run.update} updates; mean step sizes of {options.windows} windows"
    plot_lengths(picture, lengths, marks, note)
    print(f"{table}, {picture}")


if __name__ == "__main__":
    main()
