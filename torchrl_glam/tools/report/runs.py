"""Results of runs, read from their ``result.json`` files, with the returns of the episodes of training beside them."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.reading import number, numbers, read_json, text, want, whole_number

RANDOM = "random"
"""The preset of random play, which is a reference and no method."""

CURVES = ("metrics/scalars/train/episode_return.csv", "episode_return.csv")
"""Where a run's learning curve lies, beside its ``result.json``: in its folder, in a small copy of it."""

Curve = tuple[tuple[float, float], ...]

DEFAULTS: dict[str, Any] = {"ablation": "none", "dynamics": "glam", "objective": "glam", "greedy": False}
"""What a file means that lacks these: files of before they were written."""

NAMED = ("env", "protocol", "preset", "ablation", "dynamics", "objective")
MEASURED = ("seconds", "steps_per_second", "evaluation_seconds")


@dataclass(frozen=True)
class AtariRun:
    """What a ``result.json`` says of a run, and where it lies.

    Args:
        path: the file.
        env, protocol, seed, total_frames, greedy: what was played and how; ``total_frames`` are environment steps.
        preset, ablation, dynamics, objective: what was trained.
        config_hash: equal for runs that differ in seed and environment alone; ``None`` in old files.
        returns: of the evaluation's episodes, in game points.
        cut: of these, the number that were cut at the limit of steps.
        seconds: wall clock of training.
        device: in words.
        curve: ``(step, return)`` of the episodes that ended in training; ``None`` without the file.
    """

    path: Path
    env: str
    protocol: str
    preset: str
    ablation: str
    dynamics: str
    objective: str
    seed: int
    total_frames: int
    config_hash: str | None
    greedy: bool
    returns: tuple[float, ...]
    cut: int | None
    seconds: float | None
    steps_per_second: float | None
    evaluation_seconds: float | None
    device: str | None
    curve: Curve | None

    @property
    def mean(self) -> float:
        """Mean return of the evaluation's episodes."""
        return statistics.fmean(self.returns)


@dataclass(frozen=True)
class Findings:
    """What lies at the paths given.

    Args:
        runs: finished ones.
        random: random play, of any game and protocol.
        left_out: files that are no run's result, by what they are.
        unfinished: folders of runs that have no result yet.
    """

    runs: list[AtariRun]
    random: list[AtariRun]
    left_out: dict[str, list[Path]]
    unfinished: list[Path]


def read_runs(paths: Iterable[Path]) -> Findings:
    """Read run folders, folders of such, to any depth, and ``result.json`` files.

    Raises:
        UsageError: if a path does not exist, a result is damaged, or there is none.
    """
    paths = list(paths)
    files: dict[Path, Path] = {}
    unfinished: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            files |= {file.resolve(): file for file in _below(path, "result.json")}
            unfinished |= {file.resolve(): file.parent for file in _below(path, "config.yaml") if _is_unfinished(file)}
        elif path.is_file():
            files[path.resolve()] = path
        else:
            raise UsageError(f"{path} does not exist: give run folders, folders of runs, or result.json files")
    runs: list[AtariRun] = []
    left_out: dict[str, list[Path]] = {}
    for file in files.values():
        run = read_run(file)
        if isinstance(run, str):
            left_out.setdefault(run, []).append(file)
        else:
            runs.append(run)
    found = Findings(
        [run for run in runs if run.preset != RANDOM],
        [run for run in runs if run.preset == RANDOM],
        left_out,
        list(unfinished.values()),
    )
    if not found.runs:
        there = [f"{len(found.random)} of random play"] if found.random else []
        there += [f"{len(files)} of {kind}" for kind, files in left_out.items()]
        there += [f"{len(found.unfinished)} unfinished"] if found.unfinished else []
        but = f" (but {', '.join(there)})" if there else ""
        raise UsageError(
            f"there is no result of a run in {' '.join(map(str, paths)) or 'nothing'}{but}: give folders of runs of "
            "examples/glam_atari.py"
        )
    return found


def read_run(path: Path) -> AtariRun | str:
    """Read one file; a text is what else it is the result of.

    Raises:
        UsageError: if it is damaged, in one line that names it and what is wrong.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not {"env", "returns", "protocol"} <= content.keys():
            kind = "an offline run" if isinstance(content, dict) and "dataset" in content else "another kind"
            return kind
        return _checked(path, content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}; mend the file, or move it out of the way") from error


def _checked(path: Path, content: dict[str, Any]) -> AtariRun:
    """The run that a file of the right kind tells of."""
    content = {**DEFAULTS, **content}
    for name in ("seed", "total_frames", "preset"):
        want(name in content, f"it has no {name}")
    returns = numbers("returns", content["returns"])
    mean, worked_out = content.get("mean"), statistics.fmean(returns)
    want(
        mean is None or math.isclose(number("mean", mean), worked_out, rel_tol=1e-6, abs_tol=1e-6),
        f"mean is {mean}, but that of its returns is {worked_out:g}",
    )
    want(isinstance(content["greedy"], bool), f"greedy is {content['greedy']!r}, neither true nor false")
    seed, total_frames = whole_number("seed", content["seed"]), whole_number("total_frames", content["total_frames"])
    want(total_frames > 0 or content["preset"] == RANDOM, f"total_frames is {total_frames}")
    named: dict[str, Any] = {name: text(name, content[name]) for name in NAMED}
    measured: dict[str, Any] = {name: _optional(number, content, name) for name in MEASURED}
    if measured["steps_per_second"] is None and measured["seconds"]:
        measured["steps_per_second"] = total_frames / measured["seconds"]
    return AtariRun(
        path=path,
        seed=seed,
        total_frames=total_frames,
        returns=returns,
        greedy=content["greedy"],
        cut=_optional(whole_number, content, "cut"),
        config_hash=_optional(text, content, "config_hash"),
        device=_optional(text, content, "device"),
        curve=read_curve(path),
        **named,
        **measured,
    )


def read_curve(path: Path) -> Curve | None:
    """The learning curve beside a result: lines ``step,return``, sorted by step; ``None`` if there is no such file.

    Raises:
        UsageError: if there is one that holds anything else.
    """
    named = [path.parent / name for name in CURVES] if path.name == "result.json" else [path.with_suffix(".csv")]
    file = next((file for file in named if file.is_file()), None)
    if file is None:
        return None
    try:
        rows = [tuple(map(float, row)) for row in csv.reader(file.read_text(encoding="utf-8").splitlines())]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"its curve {file} is damaged ({error})") from error
    for row in rows:
        want(len(row) == 2 and all(map(math.isfinite, row)), f"its curve {file} has a line that is no step,return")
    return tuple((step, value) for step, value in sorted(rows))


def check_once(label: str, runs: Sequence[AtariRun]) -> tuple[list[AtariRun], list[str]]:
    """A method's runs, each environment and seed once; a line for each copy of a result, which counts once.

    Raises:
        UsageError: for two different results of one seed.
    """
    seen: dict[tuple[str, int], AtariRun] = {}
    copies = []
    for run in runs:
        first = seen.setdefault((run.env, run.seed), run)
        if first is run:
            continue
        if first.returns != run.returns:
            raise UsageError(
                f"{run.env} seed {run.seed} of {label} is in {first.path} and, unlike it, in {run.path}: give one"
            )
        copies.append(f"{run.path} is left out: a copy of {first.path}")
    return list(seen.values()), copies


def _below(folder: Path, name: str) -> list[Path]:
    """Files of that name at or below a folder, but none in hidden folders."""
    found = sorted(folder.rglob(name))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _is_unfinished(config: Path) -> bool:
    """Whether the options are those of a run like these, by its step count's name, and there is no result."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("total_frames:") for line in lines) and not (config.parent / "result.json").exists()


def _optional(check: Callable[[str, Any], Any], content: dict[str, Any], name: str) -> Any:
    value = content.get(name)
    return None if value is None else check(name, value)
