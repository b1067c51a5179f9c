"""Offline runs as tables: a table per budget, a cell for runs that differ only in the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from torchrl_glam.offline.results.intervals import interval_tables
from torchrl_glam.offline.results.runs import BUDGET, COLUMNS, DATA, MODELS, SETTINGS
from torchrl_glam.offline.results.spread import Spread, best_of
from torchrl_glam.presentation import NOTHING, markdown

INTRODUCTION = (
    "Each number is the mean over seeds ± their standard deviation, of the undiscounted return of whole episodes that "
    "each seed's model played; a model that takes a target was given the highest one. The normalised score has random "
    "play at 0 and the dataset's expert at 100 (D4RL's scale). Bold is a model whose 95 % interval (Student's t over "
    "seeds) lies above every other's. Each table is of one budget; its models may differ in size, as the lists of runs "
    "show."
)


def make_grids(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the runs of each budget by its title; the longest training on the most data comes first.

    Each run has a ``row``, the label of its data, and a ``column``, that of its model. A model has a column for each
    kind of its runs that differ in more than the seed, a dataset a row for each of its data that differ.
    """
    grids = {}
    for (updates, fraction), own in reversed(list(group(runs, BUDGET))):
        data = ["dataset", *telling(own, ["dataset"], DATA)]
        own = add_labels(own, "row", data)
        kinds = []
        for _, of_model in group(own, ["model"]):
            kinds.append(add_labels(of_model, "column", ["model", *telling(of_model, data, SETTINGS)]))
        columns = [label for kind in kinds for label in kind["column"].cat.categories]
        grid = pd.concat([kind.astype({"column": pd.CategoricalDtype(columns, ordered=True)}) for kind in kinds])
        grids[budget(updates, fraction)] = grid
    return grids


def comparison_tables(runs: pd.DataFrame) -> str:
    """Return scores, returns and settings of every budget, as Markdown."""
    parts = [INTRODUCTION]
    for title, grid in make_grids(runs).items():
        parts.append(f"## {title.capitalize()}")
        if grid["normalised"].notna().any():
            parts += ["Normalised score:", _score_table(grid, "normalised")]
        parts += ["Return:", _score_table(grid, "mean")]
        if intervals := interval_tables(grid):
            parts.append(intervals)
        parts += ["Runs:", _settings_table(grid)]
    return "\n\n".join(parts)


def comparison_csv(runs: pd.DataFrame) -> str:
    """Return a line for each cell of every table, with the values that its runs share."""
    columns = {
        "seeds": ("seed", lambda seeds: " ".join(map(str, sorted(seeds)))),
        "normalised_mean": ("normalised", "mean"),
        "normalised_deviation": ("normalised", "std"),
        "return_mean": ("mean", "mean"),
        "return_deviation": ("mean", "std"),
    }
    return group(runs, COLUMNS).agg(**columns).to_csv(float_format="%.6g")


def spreads(grid: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the :class:`Spread` of a score by row and column, in their order; ``None`` where there is none."""
    cells = group(grid, ["row", "column"])[score]
    table = cells.apply(lambda values: Spread.of(values.dropna()) if values.notna().any() else None).unstack()
    return table.astype(object).where(table.notna(), None)


def group(runs: pd.DataFrame, names: list[str]) -> Any:
    """Group runs that agree in all ``names``, sorted by these; missing values are values of their own."""
    return runs.groupby(names, dropna=False, observed=True)


def telling(runs: pd.DataFrame, alike: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that tell runs apart which agree in ``alike`` and in the names already chosen.

    So a table names the width only of a model that was run in several, and its parameters only where the width does
    not determine them. No two kinds of run share a cell.
    """
    chosen: list[str] = []
    for name in names:
        if group(runs, [*alike, *chosen])[name].nunique(dropna=False).gt(1).any():
            chosen.append(name)
    return chosen


def add_labels(runs: pd.DataFrame, column: str, names: list[str]) -> pd.DataFrame:
    """Add a column of labels, ordered as the values of ``names`` are: the first of these, then the others' values."""
    runs = runs.sort_values(names, kind="stable")
    first, *others = names
    labels = []
    for _, run in runs.iterrows():
        name = MODELS.get(run[first], run[first])
        labels.append(f"{name} ({describe(run[others])})" if others else name)
    return runs.assign(**{column: pd.Categorical(labels, list(dict.fromkeys(labels)), ordered=True)})


def describe(values: pd.Series) -> str:
    """Return names and values for people.

    Examples:
        >>> describe(pd.Series({"width": 64, "parameters": 120000, "memory": None, "fraction": 0.5}, dtype=object))
        'width 64, 120,000 parameters, no memory, fraction 0.5'
    """
    parts = []
    for name, value in values.items():
        words = str(name).replace("_", " ")
        if pd.isna(value):
            parts.append(f"no {words}")
        elif words in ("parameters", "transitions"):
            parts.append(f"{value:,} {words}")
        else:
            parts.append(f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}")
    return ", ".join(parts)


def budget(total_updates: int, fraction: float) -> str:
    """Return updates and share of the data in words.

    Examples:
        >>> budget(20000, 1.0), budget(500, 0.25)
        ('20,000 updates, all of the data', '500 updates, 25 % of the data')
    """
    share = "all" if fraction == 1 else f"{100 * fraction:g} %"
    return f"{total_updates:,} updates, {share} of the data"


def _score_table(grid: pd.DataFrame, score: str) -> str:
    """Return a row for each dataset, a column for each model, a clearly best one in bold."""
    table = spreads(grid, score)
    rows = []
    for row, cells in table.iterrows():
        texts = [NOTHING if cell is None else str(cell) for cell in cells]
        best = best_of(list(cells))
        if best is not None:
            texts[best] = f"**{texts[best]}**"
        rows.append([str(row), *texts])
    return markdown(["dataset", *table.columns], rows)


def _settings_table(grid: pd.DataFrame) -> str:
    """Return a row for each cell: the settings that its runs share, and the references of the normalised score."""
    names = ["transitions", "random_score", "expert_score", *(name for name in SETTINGS if grid[name].notna().any())]
    rows = []
    for (row, column), cell in group(grid, ["row", "column"]):
        seeds = ", ".join(map(str, sorted(cell["seed"])))
        rows.append([row, column, *map(_text, cell.iloc[0][names]), seeds])
    return markdown(["dataset", "model", *(name.replace("_", " ") for name in names), "seeds"], rows)


def _text(value: Any) -> str:
    if pd.isna(value):
        return NOTHING
    if isinstance(value, str):
        return value
    if abs(value) < 1:
        return f"{value:,.3g}"
    return f"{value:,.1f}" if value != int(value) else f"{value:,.0f}"
