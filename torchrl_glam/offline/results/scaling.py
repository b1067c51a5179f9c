"""Twice the data against twice the model: runs of one model on parts of its data and in several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from torchrl_glam.offline.results.runs import DATA, MODELS, SETTINGS
from torchrl_glam.offline.results.spread import Spread, decimals
from torchrl_glam.offline.results.tables import add_labels, group, spreads, telling
from torchrl_glam.presentation import NOTHING, markdown

SIZE = ["parameters", "width"]


@dataclass(frozen=True)
class ScalingStudy:
    """A model on one dataset after one number of updates.

    Args:
        title: model, dataset and updates.
        unit: that of the scores: normalised score or return.
        lines: scores by size, from the smallest, and by fraction of the data; ``None`` where there is no run.
    """

    title: str
    unit: str
    lines: pd.DataFrame


def scaling_studies(runs: pd.DataFrame, model: str = "mambadm") -> list[ScalingStudy]:
    """Find the studies among the runs: a dataset and a number of updates with several fractions of the data.

    A size is a number of parameters. Runs of one size that differ in anything else but the seed, such as the memory,
    have a line for each kind.
    """
    studies = []
    for (dataset, updates), study in group(runs[runs["model"] == model], ["dataset", "total_updates"]):
        if study["fraction"].nunique() < 2:
            continue
        score = "normalised" if study["normalised"].notna().all() else "mean"
        others = [name for name in (*SETTINGS, *DATA) if name not in SIZE]
        names = [*SIZE, *telling(study, ["fraction", *SIZE], others)]
        labelled = add_labels(study.assign(size=""), "row", ["size", *names])
        title = f"{MODELS[model]} on {dataset}, {updates:,} updates"
        fractions = pd.Categorical(labelled["fraction"])
        lines = spreads(labelled.assign(column=fractions), score)
        lines.index = [label.strip(" ()") for label in lines.index]
        studies.append(ScalingStudy(title, "normalised score" if score == "normalised" else "return", lines))
    return studies


def scaling_table(study: ScalingStudy) -> str:
    """Return scores by size and fraction, and the change by each step to more data or a larger model, as Markdown."""
    rows = [[size, *(NOTHING if cell is None else str(cell) for cell in line)] for size, line in study.lines.iterrows()]
    scores = markdown(["size", *(f"{100 * fraction:g} % of the data" for fraction in study.lines)], rows)
    changes = [[name, change(before, after)] for name, before, after in steps(study)]
    return f"{scores}\n\n{markdown(['step', f'change of the {study.unit} ± standard error'], changes)}"


def steps(study: ScalingStudy) -> list[tuple[str, Spread, Spread]]:
    """Return each step to the next fraction of the data, and to the next size, with the scores before and after it."""
    found = []
    for size, line in study.lines.iterrows():
        for less, more in pairwise(line.dropna().index):
            found.append((f"{more / less:.3g} x the data ({100 * more:g} %), {size}", line[less], line[more]))
    for smaller, larger in pairwise(study.lines.index):
        for fraction, (before, after) in study.lines.loc[[smaller, larger]].dropna(axis=1).items():
            found.append((f"from {smaller} to {larger}, {100 * fraction:g} % of the data", before, after))
    return found


def change(before: Spread, after: Spread) -> str:
    """Return the difference of two means and its standard error.

    Examples:
        >>> change(Spread(10.0, 3.0, 4), Spread(20.0, 4.0, 4))
        '+10.0 ± 2.5'
        >>> change(Spread(30.0, 3.0, 4), Spread(20.0, None, 1))
        '-10.0 (too few seeds for an error)'
    """
    difference = after.mean - before.mean
    scale = max(abs(before.mean), abs(after.mean))
    text = f"{'+' if difference >= 0 else '-'}{decimals(abs(difference), scale)}"
    if before.deviation is None or after.deviation is None:
        return f"{text} (too few seeds for an error)"
    error = (before.deviation**2 / before.seeds + after.deviation**2 / after.seeds) ** 0.5
    return f"{text} ± {decimals(error, scale)}"
