"""Compare offline runs: tables, pictures, and the published scores of similar tasks.

    python examples/mambadm_offline.py ...                                # several models, datasets and seeds
    python examples/compare_offline.py runs=results/offline out=results/offline

Reads every result.json below `runs`; writes comparison.md, comparison.csv, targets.png and, of runs on parts of the
data and in several sizes, scaling.png. Only runs that differ in nothing but their seeds are averaged. Needs the extra
`[offline]`; pictures need `[report]`.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame

from torchrl_glam import presentation as figures
from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError, make_writable
from torchrl_glam.offline import results as offline
from torchrl_glam.offline.results.runs import MODELS
from torchrl_glam.runs.files import write_file


@dataclass
class CompareOptions:
    """The runs, and the folder of the comparison."""

    runs: str  # folder; every result.json below it is read
    out: str = "results/offline"  # folder of the tables and pictures
    model: str = "mambadm"  # whose scaling is shown


@small_command(CompareOptions)
def main(options: CompareOptions) -> None:
    """Compare offline runs: scores over seeds, target returns, scaling with data and model."""
    if options.model not in MODELS:
        raise UsageError(f"model={options.model}: choose one of {', '.join(MODELS)}")
    out = Path(options.out)
    files = {name: make_writable("out", out / name) for name in ("comparison.md", "comparison.csv", "targets.png")}
    runs, left_out = offline.read_runs(Path(options.runs))
    for line in left_out:
        print(line)

    studies = offline.scaling_studies(runs, options.model)
    parts = ["# Offline runs", offline.comparison_tables(runs)]
    for study in studies:
        parts += [f"## Scaling: {study.title}", offline.scaling_table(study)]
    if published := offline.published_table(runs):
        parts += ["## Beside the published scores", published]
    write_file(files["comparison.md"], ("\n\n".join(parts) + "\n").encode())
    write_file(files["comparison.csv"], offline.comparison_csv(runs).encode())
    print(f"{len(runs)} runs: {files['comparison.md']}, {files['comparison.csv']}")

    if figures.has_matplotlib:
        draw(runs, studies, files["targets.png"])
    else:
        print('no pictures: matplotlib is missing, pip install "torchrl_glam[report]"')


def draw(runs: DataFrame, studies: list[offline.ScalingStudy], targets: Path) -> None:
    """Write the pictures and print a line on each."""
    grids = offline.make_grids(runs)
    widest = max(grids, key=lambda title: grids[title].groupby(["row", "column"], observed=True).ngroups)
    offline.plot_targets(targets, grids[widest], widest)
    others = f" ({len(grids) - 1} other budgets: in the tables)" if len(grids) > 1 else ""
    print(f"{targets}: {widest}{others}")
    if studies:
        scaling = targets.with_name("scaling.png")
        offline.plot_scaling(scaling, studies)
        print(f"{scaling}: {', '.join(study.title for study in studies)}")
    else:
        print("no scaling.png: there are no runs on several fractions of the data")


if __name__ == "__main__":
    main()
