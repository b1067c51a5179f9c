"""Read runs from their ``result.json`` files, with the returns of training episodes beside them."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from torchrl_glam.envs import PROTOCOLS
from torchrl_glam.errors import UsageError, one_line
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.runs.foreign import read_json, read_text
from torchrl_glam.runs.reading import LARGEST, field_values, number, want

RANDOM = "random"
"""The preset of random play, which is a reference and not a method."""

CURVES = ("metrics/scalars/train/episode_return.csv", "episode_return.csv")
"""Places of a learning curve, relative to ``result.json``: in a run folder, in a small copy of it."""


@dataclass(frozen=True)
class AtariRun:
    """Content of a ``result.json``. Fields with a default are missing from files of older versions.

    Args:
        path: the file.
        env, protocol, seed, total_frames, greedy: what was played and how; ``total_frames`` are environment steps.
        preset, ablation, dynamics, objective: what was trained.
        returns: of the evaluation episodes, in game points.
        config_hash: equal for runs that only differ in seed and environment.
        cut: number of evaluation episodes that were cut at the limit of steps.
        seconds: wall clock of training.
        device: in words.
        curve: return of the episodes that ended in training, by environment step; ``None`` without any.
    """

    path: Path
    env: str
    protocol: str
    preset: str
    seed: int
    total_frames: int
    returns: tuple[float, ...]
    ablation: str = "none"
    dynamics: str = "glam"
    objective: str = "glam"
    greedy: bool = False
    config_hash: str | None = None
    cut: int | None = None
    seconds: float | None = None
    steps_per_second: float | None = None
    evaluation_seconds: float | None = None
    device: str | None = None
    curve: pd.Series | None = None

    @property
    def mean(self) -> float:
        """Mean return of the evaluation episodes."""
        return statistics.fmean(self.returns)


@dataclass(frozen=True)
class Findings:
    """Everything found at the given paths.

    Args:
        runs: finished ones.
        random: random play, of any game and protocol.
        left_out: result files that are not of a run on Atari, by their kind.
        unfinished: folders of runs without a result yet.
    """

    runs: list[AtariRun]
    random: list[AtariRun]
    left_out: dict[str, list[Path]]
    unfinished: list[Path]


def read_runs(paths: Iterable[Path]) -> Findings:
    """Read run folders, folders of runs at any depth, and ``result.json`` files.

    Raises:
        UsageError: if a path does not exist, a result is damaged, or there is no run.
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
    found = Findings([], [], {}, list(unfinished.values()))
    for file in files.values():
        run = read_run(file)
        if isinstance(run, str):
            found.left_out.setdefault(run, []).append(file)
        else:
            (found.random if run.preset == RANDOM else found.runs).append(run)
    if not found.runs:
        there = {"random play": len(found.random), **{kind: len(own) for kind, own in found.left_out.items()}}
        parts = [f"{number} of {kind}" for kind, number in there.items() if number]
        parts += [f"{len(found.unfinished)} unfinished"] if found.unfinished else []
        place = " ".join(map(str, paths)) or "nothing"
        but = f" (but {', '.join(parts)})" if parts else ""
        command = other_command("train")
        raise UsageError(f"there is no result of a run in {place}{but}: give folders of runs of {command}")
    return found


def read_run(path: Path) -> AtariRun | str:
    """Read one file; return a text if it is another kind of result, which says the kind.

    Raises:
        UsageError: if it is damaged, in one line that names the file and the damage.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict) or not {"env", "returns", "protocol"} <= content.keys():
            return "an offline run" if isinstance(content, dict) and "dataset" in content else "another kind"
        if content["returns"] == []:
            return "a run without an evaluation"
        return _checked(path, content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}; correct the file or move it elsewhere") from error


def _checked(path: Path, content: dict[str, Any]) -> AtariRun:
    values = field_values([field for field in fields(AtariRun) if field.name not in ("path", "curve")], content)
    if values.get("steps_per_second") is None and values.get("seconds"):
        values["steps_per_second"] = values["total_frames"] / values["seconds"]
    run = AtariRun(path, **values, curve=read_curve(path))
    known = f"protocol is {run.protocol} and none of {', '.join(PROTOCOLS)}"
    want(run.protocol in PROTOCOLS, known)
    want(run.total_frames > 0 or run.preset == RANDOM, f"total_frames is {run.total_frames}")
    mean = content.get("mean")
    want(
        mean is None or math.isclose(number("mean", mean), run.mean, rel_tol=1e-6, abs_tol=1e-6),
        f"mean is {mean}, but that of its returns is {run.mean:g}",
    )
    return run


def read_curve(path: Path) -> pd.Series | None:
    """Read the learning curve beside a result, lines of ``step,return``; ``None`` without a file or an episode.

    Raises:
        UsageError: if the file holds anything else.
    """
    named = [path.parent / name for name in CURVES] if path.name == "result.json" else [path.with_suffix(".csv")]
    file = next((file for file in named if file.is_file()), None)
    if file is None:
        return None
    try:
        rows = [tuple(map(float, row)) for row in csv.reader(read_text(file).splitlines())]
    except (ValueError, csv.Error) as error:  # a UsageError is a ValueError
        raise UsageError(f"its curve {file} is damaged ({one_line(error)[:200]})") from error
    for row in rows:
        good = len(row) == 2 and all(abs(number) <= LARGEST for number in row)  # false for NaN too
        want(good, f"its curve {file} has a line that is not step,return")
    if not rows:
        return None
    steps, returns = zip(*sorted(rows), strict=True)
    return pd.Series(returns, index=steps)


def _below(folder: Path, name: str) -> list[Path]:
    """List the files of that name at or below a folder, without hidden folders."""
    found = sorted(folder.rglob(name))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _is_unfinished(config: Path) -> bool:
    """Return True if a ``config.yaml`` has the step count of a run on Atari, and there is no result beside it."""
    try:
        lines = read_text(config).splitlines()
    except UsageError:
        return False
    return any(line.startswith("total_frames:") for line in lines) and not (config.parent / "result.json").exists()
