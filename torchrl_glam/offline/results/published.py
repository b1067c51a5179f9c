"""Published scores of offline models, beside one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torchrl_glam.envs.scores import read_data
from torchrl_glam.offline.results.runs import MODELS, OfflineResult, group
from torchrl_glam.offline.results.tables import Grid, make_grids, normalised_score
from torchrl_glam.presentation import NOTHING, markdown

TASKS = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d"}
QUALITIES = {"medium-expert": "ME", "medium": "M", "replay": "MR"}
DIFFERENCE = (
    "Published: as the RATE paper prints them (tables 3 and 4). Ours are runs on all of the data. What differs: D4RL's "
    "data are from its own agents, ours were recorded from our own teachers, of other quality, length and mixture; our "
    "random and expert references were measured here and are not D4RL's; the budget of updates is the one given. So a "
    "number of ours may stand above or below a published one for reasons that lie in the data."
)


def published_offline_scores() -> dict[str, dict[str, float | None]]:
    """Reads the Gym rows of ``data/mambadm.csv``: MambaDM and its neighbours on D4RL's three locomotion tasks.

    Source: the tables 3 and 4 of the RATE paper (Recurrent Action Transformer with Memory), which reprints the others'
    numbers, MambaDM's among them.

    Returns:
        ``{task: {model: score}}`` in the table's order. The score is D4RL's, ``100 (return - random) / (expert -
        random)``, and ``None`` where none was reported. Tasks end in ``-ME`` (medium-expert), ``-M`` (medium) or
        ``-MR`` (medium-replay).

    Examples:
        >>> published_offline_scores()["Hopper-M"]["MambaDM"]
        85.7
    """
    rows = read_data("mambadm.csv", "offline")
    scores = {row.pop("task"): {model: float(cell) if cell else None for model, cell in row.items()} for row in rows}
    return {task: row for task, row in scores.items() if re.search(r"-(ME|M|MR)$", task)}


def published_task(dataset: str) -> str | None:
    """The published task that a dataset of one's own stands for; ``None`` if it is like none of them.

    Examples:
        >>> published_task("hopper/replay-v0"), published_task("cartpole/mixed-v0")
        ('Hopper-MR', None)
    """
    match = re.fullmatch(rf"({'|'.join(TASKS)})/({'|'.join(QUALITIES)})-v\d+", dataset)
    return f"{TASKS[match[1]]}-{QUALITIES[match[2]]}" if match else None


def published_table(runs: Sequence[OfflineResult]) -> str | None:
    """The published scores beside those of our runs on all of the data, as Markdown.

    Returns:
        A table and a line on what differs; ``None`` if no dataset stands for a published task.
    """
    published = published_offline_scores()
    ours: dict[str, list[list[str]]] = {}
    others = [model for model in next(iter(published.values())) if model not in MODELS.values()]
    for (dataset,), own in group([run for run in runs if run.fraction == 1], ("dataset",)).items():
        task = published_task(dataset)
        if task is None:
            continue
        for grid in make_grids([run for run in own if run.normalised is not None]):
            for row in grid.rows:
                cells = [_cell(grid, row, model) for model in MODELS]
                ours.setdefault(task, []).append([f"ours: {row}, {grid.total_updates:,} updates", *cells])
    rows = []
    for task, scores in published.items():
        if task in ours:
            numbers = [scores.get(model) for model in (*MODELS.values(), *others)]
            rows.append([task, "published", *(NOTHING if number is None else f"{number:.1f}" for number in numbers)])
            rows += [[task, *line, *[NOTHING] * len(others)] for line in ours[task]]
    return f"{markdown(['task', 'scores', *MODELS.values(), *others], rows)}\n\n{DIFFERENCE}" if rows else None


def _cell(grid: Grid, row: str, model: str) -> str:
    """Our score of a model; of each of its kinds, where it was run in several."""
    name, cells = MODELS[model], {}
    for column in grid.columns:
        cell = grid.cells.get((row, column))
        if cell and cell[0].model == model:
            cells[column] = str(normalised_score(cell))
    kinds = (f"{column.removeprefix(name).strip(' ()')}: {score}" for column, score in cells.items())
    return NOTHING if not cells else next(iter(cells.values())) if len(cells) == 1 else "; ".join(kinds)
