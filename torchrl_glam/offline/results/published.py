"""Published scores of offline models, beside one's own."""

from __future__ import annotations

import re

import pandas as pd

from torchrl_glam.envs.scores import read_data
from torchrl_glam.offline.results.runs import MODELS
from torchrl_glam.offline.results.tables import group, make_grids, spreads
from torchrl_glam.presentation import NOTHING, markdown

TASKS = {"hopper": "Hopper", "halfcheetah": "HalfCheetah", "walker2d": "Walker2d"}
QUALITIES = {"medium-expert": "ME", "medium": "M", "replay": "MR"}
DIFFERENCE = (
    "Published: as the RATE paper prints them (tables 3 and 4). Ours are runs on all of the data. Differences: D4RL's "
    "data come from its own agents, ours from our own teachers, of other quality, length and mixture; our random and "
    "expert references were measured here and are not D4RL's; the budget of updates is the one given. So a number of "
    "ours may be above or below a published one because of the data."
)


def published_offline_scores() -> dict[str, dict[str, float | None]]:
    """Read the Gym rows of ``data/mambadm.csv``: MambaDM and its neighbours on D4RL's three locomotion tasks.

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
    """Return the published task that a dataset of one's own stands for; ``None`` if it is like none of them.

    Examples:
        >>> published_task("hopper/replay-v0"), published_task("cartpole/mixed-v0")
        ('Hopper-MR', None)
    """
    match = re.fullmatch(rf"({'|'.join(TASKS)})/({'|'.join(QUALITIES)})-v\d+", dataset)
    return f"{TASKS[match[1]]}-{QUALITIES[match[2]]}" if match else None


def published_table(runs: pd.DataFrame) -> str | None:
    """Return the published scores beside those of our runs on all of the data, as Markdown.

    Returns:
        A table and the differences in words; ``None`` if no dataset stands for a published task.
    """
    published = published_offline_scores()
    others = [model for model in next(iter(published.values())) if model not in MODELS.values()]
    scored = runs[(runs["fraction"] == 1) & runs["normalised"].notna()]
    ours: dict[str, list[list[str]]] = {}
    for (dataset,), own in group(scored, ["dataset"]):
        task = published_task(dataset)
        if task is None:
            continue
        for title, grid in make_grids(own).items():
            for row, cells in spreads(grid, "normalised").iterrows():
                line = [
                    f"ours: {row}, {title.partition(', all')[0]}",
                    *(_cell(cells, name) for name in MODELS.values()),
                ]
                ours.setdefault(task, []).append(line)
    rows = []
    for task, scores in published.items():
        if task in ours:
            numbers = [scores.get(model) for model in (*MODELS.values(), *others)]
            rows.append([task, "published", *(NOTHING if number is None else f"{number:.1f}" for number in numbers)])
            rows += [[task, *line, *[NOTHING] * len(others)] for line in ours[task]]
    return f"{markdown(['task', 'scores', *MODELS.values(), *others], rows)}\n\n{DIFFERENCE}" if rows else None


def _cell(cells: pd.Series, name: str) -> str:
    """Return our score of a model; where it was run in several kinds, of each."""
    own = cells[[label.split(" (")[0] == name for label in cells.index]].dropna()
    if len(own) < 2:
        return str(own.iloc[0]) if len(own) else NOTHING
    return "; ".join(f"{label.removeprefix(name).strip(' ()')}: {score}" for label, score in own.items())
