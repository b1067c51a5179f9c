"""Results of offline runs, read from their ``result.json`` files, and grouped so that only like is put with like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.reading import number, numbers, read_json, text, want, whole_number

MODELS = {"bc": "BC", "dt": "DT", "dmamba": "DMamba", "mambadm": "MambaDM"}
"""The models' names in the files and in tables, in the tables' order."""

OPTIONS = ("num_layers", "context", "local_length", "fusion", "branches", "batch_size", "lr", "options")
"""What a file may name, to tell runs apart which are alike in all else; ``options`` is a hash of all options."""

SETTINGS = ("width", "memory", "loss", "preset", *OPTIONS[:-1], "parameters", "highest_target", "episodes", "options")
"""What runs of a model on one dataset may differ in, beside the seed and the budget (``total_updates, fraction``)."""

DATA = ("random_score", "expert_score", "transitions")
"""What tells data of one name and fraction apart: a dataset recorded anew keeps its name."""


@dataclass(frozen=True)
class TargetEvaluation:
    """Episodes played for one target return; ``None`` where the model is given none.

    Args:
        target_return: the return asked for, in reward units.
        fraction: ``target = low + fraction (best - low)``; ``best`` is the best return of an episode in the data.
        returns: of the episodes.
        mean: of the returns.
        normalised: the mean on D4RL's scale, if there are references.
    """

    target_return: float | None
    fraction: float | None
    returns: tuple[float, ...]
    mean: float
    normalised: float | None


@dataclass(frozen=True)
class OfflineResult:
    """What a run's ``result.json`` says, and where it lies.

    ``fraction`` is that of the dataset's episodes used, ``mean`` the mean return at the highest target, and
    ``normalised`` the same on D4RL's scale, ``100 (mean - random_score) / (expert_score - random_score)``, ``None``
    where there are no references. The last ones, :data:`OPTIONS`, are ``None`` where the file does not name them.
    """

    path: Path
    dataset: str
    env: str | None
    model: str
    preset: str | None
    seed: int
    loss: str | None
    memory: str | None
    total_updates: int
    parameters: int
    transitions: int
    fraction: float
    width: int | None
    random_score: float | None
    expert_score: float | None
    evaluations: tuple[TargetEvaluation, ...]
    mean: float
    normalised: float | None
    num_layers: int | None = None
    context: int | None = None
    local_length: int | None = None
    fusion: str | None = None
    branches: str | None = None
    batch_size: int | None = None
    lr: float | None = None
    options: str | None = None

    @property
    def highest_target(self) -> float | None:
        """The highest return asked for, by which the run is scored; ``None`` for a model that is given none."""
        return max((entry.target_return for entry in self.evaluations if entry.target_return is not None), default=None)

    @property
    def episodes(self) -> int:
        """Episodes played for each target, at least."""
        return min(len(entry.returns) for entry in self.evaluations)


def read_runs(folder: Path) -> tuple[list[OfflineResult], list[str]]:
    """Read every ``result.json`` below a folder.

    Args:
        folder: of any depth.

    Returns:
        The runs, in the order of their paths, and a line for each file that was left out: damaged, of another kind, or
        of a run that is there already.

    Raises:
        UsageError: if there is no such folder, or no offline run in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the one that the runs' folders are in")
    runs: dict[tuple[Any, ...], OfflineResult] = {}
    left_out = []
    for path in sorted(folder.rglob("result.json")):
        try:
            run = read_run(path)
        except UsageError as error:
            left_out.append(str(error))
            continue
        names = ("dataset", "model", "total_updates", "fraction", *SETTINGS, *DATA, "seed")
        first = runs.setdefault(values(run, names), run)
        if first is not run:  # else its seed would count twice, and the spread be too small
            left_out.append(f"{path} is left out: seed {run.seed} with these settings is in {first.path} already")
    if not runs:
        why = f"; {left_out[0]}" if left_out else ""
        raise UsageError(f"{folder} has no result of an offline run{why}: make some by examples/mambadm_offline.py")
    return list(runs.values()), left_out


def read_run(path: Path) -> OfflineResult:
    """Read one file.

    Raises:
        UsageError: if it cannot be read or is not the result of an offline run, in one line that names the file.
    """
    try:
        content = read_json(path)
    except UsageError as error:
        raise UsageError(f"{path} is left out: {error}") from error
    try:
        want(isinstance(content, dict), f"it holds a {type(content).__name__} and not named values")
        found = {field.name: _checked(content, field.name, field.type) for field in fields(OfflineResult)[1:]}
        want(content["model"] in MODELS, f"model is {content['model']!r}, none of {', '.join(MODELS)}")
        want(found["evaluations"], "evaluations are empty")
    except UsageError as error:
        raise UsageError(f"{path} is left out: not the result of an offline run, {error}") from error
    return OfflineResult(path, **found)


def values(run: OfflineResult, names: Iterable[str]) -> tuple[Any, ...]:
    """The run's attributes of these names."""
    return tuple(getattr(run, name) for name in names)


def group(runs: Iterable[OfflineResult], names: Sequence[str]) -> dict[tuple[Any, ...], list[OfflineResult]]:
    """Runs that agree in all ``names``, sorted by these: models in the order of :data:`MODELS`, ``None`` first."""
    groups: dict[tuple[Any, ...], list[OfflineResult]] = {}
    for run in runs:
        groups.setdefault(values(run, names), []).append(run)
    models = list(MODELS)

    def place(key: tuple[Any, ...]) -> list[tuple[bool, Any]]:
        named = zip(names, key, strict=True)
        return [(entry is not None, models.index(entry) if name == "model" else entry) for name, entry in named]

    return {key: groups[key] for key in sorted(groups, key=place)}


def telling(runs: Sequence[OfflineResult], alike: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that tell runs apart which agree in ``alike`` and in the names already chosen.

    So a table need not name the width of a model that was run in one width, nor its parameters where the width says
    it all, and yet no two kinds of run share a cell.
    """
    chosen: list[str] = []
    for name in names:
        groups = group(runs, (*alike, *chosen)).values()
        if any(len({getattr(run, name) for run in own}) > 1 for own in groups):
            chosen.append(name)
    return tuple(chosen)


def describe(names: Iterable[str], entries: Iterable[Any]) -> str:
    """Names and values for people.

    Examples:
        >>> describe(("width", "parameters", "memory", "fraction"), (64, 120000, None, 0.5))
        'width 64, 120,000 parameters, no memory, fraction 0.5'
    """
    parts = []
    for name, entry in zip(names, entries, strict=True):
        name = name.replace("_", " ")
        if entry is None:
            parts.append(f"no {name}")
        elif name in ("parameters", "transitions"):
            parts.append(f"{entry:,} {name}")
        else:
            parts.append(f"{name} {entry:g}" if isinstance(entry, float) else f"{name} {entry}")
    return ", ".join(parts)


def _checked(content: dict[str, Any], name: str, kind: Any) -> Any:
    """The value of that name, of the type that the dataclass's annotation names."""
    want(name in content or name in OPTIONS, f"it has no {name}")
    value: Any = content.get(name)
    if name == "evaluations":
        want(isinstance(value, list), "evaluations are not a list")
        return tuple(_evaluation(entry) for entry in value)
    if name == "returns":
        return numbers(name, value)
    if value is None and kind.endswith("| None"):
        return None
    check = {"str": text, "int": whole_number}.get(kind.split(" ")[0], number)
    return check(name, value)


def _evaluation(content: Any) -> TargetEvaluation:
    try:
        want(isinstance(content, dict), f"it is {content!r}")
        return TargetEvaluation(
            **{field.name: _checked(content, field.name, field.type) for field in fields(TargetEvaluation)}
        )
    except UsageError as error:
        raise UsageError(f"an evaluation: {error}") from error
