"""Offline runs as a table, a row per ``result.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from torchrl_glam.errors import UsageError
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.runs.foreign import read_json
from torchrl_glam.runs.reading import number, numbers, text, want, whole_number

MODELS = {"bc": "BC", "dt": "DT", "dmamba": "DMamba", "mambadm": "MambaDM"}
"""The models' names in the files and in tables, in the tables' order."""

Check = Callable[[str, Any], Any]
NEEDED: dict[str, Check] = {
    "dataset": text,
    "model": text,
    "seed": whole_number,
    "total_updates": whole_number,
    "parameters": whole_number,
    "transitions": whole_number,
    "fraction": number,  # of the dataset's episodes
    "mean": number,  # return at the highest target
}
NULLABLE: dict[str, Check] = {
    "env": text,
    "preset": text,
    "loss": text,
    "memory": text,
    "width": whole_number,
    "random_score": number,
    "expert_score": number,
    "normalised": number,  # the mean on D4RL's scale, None without references
}
OPTIONS: dict[str, Check] = {  # a file may lack these
    "num_layers": whole_number,
    "context": whole_number,
    "local_length": whole_number,
    "fusion": text,
    "branches": text,
    "batch_size": whole_number,
    "lr": number,
    "options": text,  # a hash of all options
}
BEST: dict[str, Check] = {  # the best evaluation at the highest target, the last one among them; files may lack it
    "best_update": whole_number,
    "best_mean": number,
    "best_normalised": number,
}
EVALUATION: tuple[dict[str, Check], dict[str, Check]] = (
    {"returns": numbers, "mean": number},
    {"target_return": number, "fraction": number, "normalised": number},  # None where the model takes no target
)

BUDGET = ["total_updates", "fraction"]
DATA = ["random_score", "expert_score", "transitions"]
"""Columns that tell apart data of one name and fraction: a dataset that is recorded again keeps its name."""
SETTINGS = [
    "width",
    "memory",
    "loss",
    "preset",
    *list(OPTIONS)[:-1],
    "parameters",
    "highest_target",
    "episodes",
    "options",
]
"""Columns in which runs of a model on one dataset may differ, beside the seed and the budget."""
COLUMNS = ["dataset", "model", *BUDGET, *SETTINGS, *DATA]
"""All columns that runs of one cell share."""


def read_runs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read every ``result.json`` below a folder.

    Args:
        folder: of any depth.

    Returns:
        The runs in the order of their paths, and a line for each file that was left out: damaged, of another kind, or
        of a run that is there already. Columns are :data:`COLUMNS`, the path, the seed, the scores and the evaluations.

    Raises:
        UsageError: if there is no such folder, or no offline run in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the one that the runs' folders are in")
    runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    left_out = []
    for path in sorted(folder.rglob("result.json")):
        try:
            run = read_run(path)
        except UsageError as error:
            left_out.append(str(error))
            continue
        first = runs.setdefault(tuple(run[name] for name in (*COLUMNS, "seed")), run)
        if first is not run:  # else its seed would count twice, and the spread be too small
            left_out.append(f"{path} is left out: seed {run['seed']} with these settings is in {first['path']} already")
    if not runs:
        why = f"; {left_out[0]}" if left_out else ""
        command = other_command("offline train")
        raise UsageError(f"{folder} has no result of an offline run{why}: make some by {command}")
    table = pd.DataFrame(list(runs.values()), dtype=object)
    ordered = pd.CategoricalDtype(list(MODELS), ordered=True)
    scores = ("mean", "normalised", "fraction", "best_mean", "best_normalised")
    return table.astype({"model": ordered, **dict.fromkeys(scores, float)}), left_out


def read_run(path: Path) -> dict[str, Any]:
    """Read one file; a value that it does not have is ``None``.

    Raises:
        UsageError: if it cannot be read or is not the result of an offline run, in one line that names the file.
    """
    try:
        content = read_json(path)
    except UsageError as error:
        raise UsageError(f"{path} is left out: {error}") from error
    try:
        want(isinstance(content, dict), f"it holds a {type(content).__name__} and not named values")
        run = _read_values({**dict.fromkeys([*OPTIONS, *BEST]), **content}, NEEDED, {**NULLABLE, **OPTIONS, **BEST})
        want(run["model"] in MODELS, f"model is {run['model']!r}, none of {', '.join(MODELS)}")
        want("evaluations" in content, "it has no evaluations")
        want(isinstance(content["evaluations"], list), "evaluations are not a list")
        want(content["evaluations"], "evaluations are empty")
        evaluations = [_read_evaluation(entry) for entry in content["evaluations"]]
    except UsageError as error:
        raise UsageError(f"{path} is left out: not the result of an offline run, {error}") from error
    targets = [entry["target_return"] for entry in evaluations if entry["target_return"] is not None]
    return {
        "path": str(path),
        **run,
        "evaluations": evaluations,
        "highest_target": max(targets, default=None),
        "episodes": min(len(entry["returns"]) for entry in evaluations),
    }


def _read_values(content: dict[str, Any], needed: dict[str, Check], nullable: dict[str, Check]) -> dict[str, Any]:
    checks = {**needed, **nullable}
    for name in checks:
        want(name in content, f"it has no {name}")
    empty = {name for name in nullable if content[name] is None}
    return {name: None if name in empty else check(name, content[name]) for name, check in checks.items()}


def _read_evaluation(content: Any) -> dict[str, Any]:
    try:
        want(isinstance(content, dict), f"it is {ascii(content)[:80]}")
        return _read_values(content, *EVALUATION)
    except UsageError as error:
        raise UsageError(f"an evaluation: {error}") from error
