"""The last and the best evaluation of all seeds at the highest target, with rliable's intervals.

Definitions: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021).
``n`` seeds, ``g`` datasets.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd

from torchrl_glam.offline.results.spread import FEWEST, decimals
from torchrl_glam.presentation import NOTHING, markdown

has_rliable = find_spec("rliable") is not None
"""True if intervals can be computed; rliable comes with ``pip install "torchrl_glam[report]"``."""

RESAMPLES = 2000
CHECKPOINTS = {"last": "", "best": "best_"}
EXPLANATION = (
    "Last and best evaluation of each seed at the highest target, which the run's options fix before it: mean over "
    "seeds, with a 95 % interval by rliable's stratified bootstrap. The best of several noisy evaluations is too high; "
    "the last one is what a run leaves. IQM: mean of the middle half of all runs."
)


def interval_tables(grid: pd.DataFrame) -> str:
    """Return a row per dataset and checkpoint, and for several datasets their aggregates; empty without rliable.

    Args:
        grid: runs of one budget with ``row`` and ``column``, as :func:`~torchrl_glam.offline.results.make_grids` has.
    """
    score = "normalised" if grid["normalised"].notna().all() else "mean"
    if not has_rliable or grid[f"best_{score}"].isna().all():
        return ""
    columns = list(grid["column"].cat.categories)
    rows, datasets = [], list(grid["row"].unique())
    for dataset in datasets:
        for name, prefix in CHECKPOINTS.items():
            cells = [scores_of(grid, [dataset], column, prefix + score) for column in columns]
            rows.append([str(dataset), name, *(NOTHING if cell is None else interval(cell) for cell in cells)])
    if len(datasets) > 1:
        for name, prefix in CHECKPOINTS.items():
            cells = [scores_of(grid, datasets, column, prefix + score) for column in columns]
            for way in ("mean", "IQM"):
                shown = [NOTHING if cell is None else interval(cell, way) for cell in cells]
                rows.append([f"all, {way}", name, *shown])
    return f"{EXPLANATION}\n\n{markdown(['dataset', 'checkpoint', *columns], rows)}"


def scores_of(grid: pd.DataFrame, datasets: list[str], column: str, score: str) -> np.ndarray | None:
    """Return a model's scores ``[n g]``; None if it lacks one of the datasets.

    Of datasets with different numbers of seeds the first ones count, as many as all have.
    """
    own = grid[(grid["column"] == column) & grid[score].notna()].sort_values("seed")
    lists = [own.loc[own["row"] == dataset, score].to_list() for dataset in datasets]
    fewest = min(map(len, lists))
    return np.array([entries[:fewest] for entries in lists], dtype=float).T if fewest else None


def interval(scores: np.ndarray, way: str = "mean") -> str:
    """Return the mean or IQM of ``scores [n g]``, and its interval from three seeds on.

    Examples:
        >>> import numpy as np
        >>> interval(np.array([[10.0], [10.0], [10.0]])), interval(np.array([[10.0], [20.0]]))
        ('10.0 [10.0, 10.0]', '15.0 (2 seeds: too few)')
    """
    from rliable import library, metrics

    function = {"mean": metrics.aggregate_mean, "IQM": metrics.aggregate_iqm}[way]
    if len(scores) < FEWEST:
        seeds = "1 seed" if len(scores) == 1 else f"{len(scores)} seeds"
        return f"{decimals(value := float(function(scores)), value)} ({seeds}: too few)"
    state = np.random.get_state()  # rliable draws from numpy's global generator
    np.random.seed(0)
    try:
        points, ends = library.get_interval_estimates({"": scores}, lambda x: np.array([function(x)]), reps=RESAMPLES)
    finally:
        np.random.set_state(state)
    value, (low, high) = float(points[""][0]), (float(end[0]) for end in ends[""])
    return f"{decimals(value, value)} [{decimals(low, value)}, {decimals(high, value)}]"
