"""Offline runs as tables: a table for each budget, a cell for runs that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torchrl_glam.offline.results.runs import (
    DATA,
    MODELS,
    SETTINGS,
    OfflineResult,
    describe,
    group,
    telling,
    values,
)
from torchrl_glam.offline.results.spread import Spread, best_of
from torchrl_glam.presentation import NOTHING, csv_text, markdown

INTRODUCTION = (
    "Each number is the mean over seeds ± their standard deviation, of the undiscounted return of whole episodes that "
    "each seed's model played; a model that is asked for a return was asked for the highest of its targets. The "
    "normalised score has random play at 0 and the dataset's expert at 100 (D4RL's scale). Bold is a model whose 95 % "
    "interval (Student's t over seeds) lies above every other's. Each table is of one budget; its models may "
    "differ in size, as the lists of what was run say."
)
COLUMNS = ("dataset", "model", "total_updates", "fraction", *SETTINGS, *DATA)


@dataclass(frozen=True)
class Grid:
    """The runs of one budget.

    Args:
        total_updates, fraction: the budget.
        rows: labels of the datasets.
        columns: labels of the models.
        cells: runs by row and column, which differ in their seeds alone.
    """

    total_updates: int
    fraction: float
    rows: list[str]
    columns: list[str]
    cells: dict[tuple[str, str], list[OfflineResult]]

    @property
    def title(self) -> str:
        """The budget in words."""
        return budget(self.total_updates, self.fraction)


def make_grids(runs: Sequence[OfflineResult]) -> list[Grid]:
    """One grid for each budget; the longest training on the most data comes first.

    Where runs of a model on one dataset differ in more than the seed, the model has a column for each kind; where data
    of one name differ, the dataset has a row for each.
    """
    grids = []
    for (updates, fraction), own in reversed(group(runs, ("total_updates", "fraction")).items()):
        data = ("dataset", *telling(own, ("dataset",), DATA))
        rows, columns, cells = [], [], {}
        for key in group(own, data):
            rows.append(_label(key[0], data[1:], key[1:]))
        for (model,), of_model in group(own, ("model",)).items():
            settings = telling(of_model, data, SETTINGS)
            for key, kind in group(of_model, settings).items():
                columns.append(_label(MODELS[model], settings, key))
                for place, cell in group(kind, data).items():
                    cells[_label(place[0], data[1:], place[1:]), columns[-1]] = cell
        grids.append(Grid(updates, fraction, rows, columns, cells))
    return grids


def comparison_tables(runs: Sequence[OfflineResult]) -> str:
    """Scores, returns and settings of every budget, as Markdown."""
    parts = [INTRODUCTION]
    for grid in make_grids(runs):
        parts.append(f"## {grid.title.capitalize()}")
        if any(normalised_score(cell) is not None for cell in grid.cells.values()):
            parts += ["Normalised score:", _score_table(grid, normalised_score)]
        parts += ["Return:", _score_table(grid, mean_return), "What was run:", _settings_table(grid)]
    return "\n\n".join(parts)


def comparison_csv(runs: Sequence[OfflineResult]) -> str:
    """A line for each cell of every table, with all that its runs have in common."""
    rows = []
    scores = ("normalised_mean", "normalised_deviation", "return_mean", "return_deviation")
    for cell in group(runs, COLUMNS).values():
        numbers: list[float | None] = []
        for score in (normalised_score(cell), mean_return(cell)):
            numbers += [score.mean, score.deviation] if score else [None, None]
        seeds = " ".join(str(seed) for seed in sorted(run.seed for run in cell))
        line = [*values(cell[0], COLUMNS), seeds, *(None if number is None else f"{number:.6g}" for number in numbers)]
        rows.append(line)
    return csv_text([*COLUMNS, "seeds", *scores], rows)


def normalised_score(cell: Sequence[OfflineResult]) -> Spread | None:
    """Mean over seeds on D4RL's scale; ``None`` without references."""
    scores = [run.normalised for run in cell if run.normalised is not None]
    return Spread.of(scores) if scores else None


def mean_return(cell: Sequence[OfflineResult]) -> Spread:
    """Mean over seeds in reward units."""
    return Spread.of(run.mean for run in cell)


def budget(total_updates: int, fraction: float) -> str:
    """Updates and share of the data.

    Examples:
        >>> budget(20000, 1.0), budget(500, 0.25)
        ('20,000 updates, all of the data', '500 updates, 25 % of the data')
    """
    share = "all" if fraction == 1 else f"{100 * fraction:g} %"
    return f"{total_updates:,} updates, {share} of the data"


def _score_table(grid: Grid, score: Callable[[Sequence[OfflineResult]], Spread | None]) -> str:
    """A row for each dataset, a column for each model, the best in bold where it is beyond doubt."""
    rows = []
    for row in grid.rows:
        cells = [grid.cells.get((row, column)) for column in grid.columns]
        spreads = [score(cell) if cell else None for cell in cells]
        texts = [NOTHING if spread is None else str(spread) for spread in spreads]
        best = best_of(spreads)
        if best is not None:
            texts[best] = f"**{texts[best]}**"
        rows.append([row, *texts])
    return markdown(["dataset", *grid.columns], rows)


def _settings_table(grid: Grid) -> str:
    """A row for each cell: what its runs share, and the references of the normalised score."""
    runs = [run for cell in grid.cells.values() for run in cell]
    told = [name for name in SETTINGS if any(getattr(run, name) is not None for run in runs)]
    names = ("transitions", "random_score", "expert_score", *told)
    rows = []
    for row in grid.rows:
        for column in grid.columns:
            if cell := grid.cells.get((row, column)):
                seeds = ", ".join(str(seed) for seed in sorted(run.seed for run in cell))
                rows.append([row, column, *map(_text, values(cell[0], names)), seeds])
    return markdown(["dataset", "model", *(name.replace("_", " ") for name in names), "seeds"], rows)


def _text(entry: Any) -> str:
    if entry is None:
        return NOTHING
    if isinstance(entry, str):
        return entry
    return (
        f"{entry:,.1f}"
        if abs(entry) >= 1 and entry != int(entry)
        else f"{entry:,.3g}"
        if abs(entry) < 1
        else f"{entry:,.0f}"
    )


def _label(name: str, settings: Sequence[str], entries: Sequence[Any]) -> str:
    return f"{name} ({describe(settings, entries)})" if settings else name
