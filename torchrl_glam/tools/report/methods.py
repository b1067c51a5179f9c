"""All runs in one table, which also names their methods: runs that only differ in seed and game are one method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from torchrl_glam.envs.scores import game_name
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.references import normalise
from torchrl_glam.tools.report.runs import AtariRun
from torchrl_glam.tools.report.statistics import better_than_random

SWAPS = ("ablation", "dynamics", "objective")
MEASURED = ("mean", "cut", "seconds", "steps_per_second", "evaluation_seconds")


def tabulate_runs(
    found: Iterable[AtariRun], scale: pd.DataFrame, random_play: Iterable[AtariRun] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Put runs into a table, one row each, sorted by method, environment and seed.

    Args:
        found: the runs.
        scale: ``random`` and ``human`` scores by game.
        random_play: runs of random play.

    Returns:
        The table, and a line for each copy of a result that was left out. Columns are the attributes of
        :class:`AtariRun` and

        * ``method``: its label; a category, the methods with the most games first. ``env`` is a category too: games of
          the benchmark first, in its order;
        * ``name``: the game's name, or that of another environment;
        * ``game``: the game if it is one of the benchmark, its ``random`` and ``human`` scores, and the
          human-normalised mean in ``normalised``;
        * ``random_play``: the returns of random play in the same environment under the same protocol, or ``None``; and
          ``p_random``: the p-value of the run's episodes against these.

    Raises:
        UsageError: if there are two different results of one method, environment and seed.
    """
    rows, copies = _label_runs(found)
    runs = pd.DataFrame(rows).astype(dict.fromkeys(MEASURED, float))
    num_games = runs.groupby("method")["env"].nunique()
    runs["method"] = pd.Categorical(runs["method"], sorted(num_games.index, key=lambda name: (-num_games[name], name)))
    runs["name"] = [game_name(env) or env for env in runs["env"]]
    runs["game"] = runs["name"].where(runs["name"].isin(scale.index) & (runs["name"] != runs["env"]))
    runs[["random", "human"]] = scale.reindex(runs["game"]).to_numpy()
    runs["normalised"] = normalise(runs["mean"], runs)
    runs["random_play"], runs["p_random"] = _against_random(runs, random_play)
    order = runs.assign(other=runs["game"].isna()).sort_values(["other", "game", "env"])["env"]
    runs["env"] = pd.Categorical(runs["env"], order.unique())
    return runs.sort_values("method", kind="stable", ignore_index=True), copies


def _label_runs(runs: Iterable[AtariRun]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each method, environment and seed, and a line for each copy."""
    groups: dict[tuple[Any, ...], list[AtariRun]] = {}
    for run in sorted(runs, key=lambda run: (run.env, run.seed, str(run.path))):
        groups.setdefault(_key(run), []).append(run)
    rows, copies = [], []
    for label, group in zip(_labels([group[0] for group in groups.values()]), groups.values(), strict=True):
        seen: dict[tuple[str, int], AtariRun] = {}
        for run in group:
            first = seen.setdefault((run.env, run.seed), run)
            if first.returns != run.returns:
                raise UsageError(
                    f"{run.env} seed {run.seed} of {label} has two different results, {first.path} and {run.path}: "
                    "give only one"
                )
            if first is run:
                rows.append({"method": label, "mean": run.mean, **vars(run)})
            else:
                copies.append(f"{run.path} is left out: a copy of {first.path}")
    return rows, copies


def _key(run: AtariRun) -> tuple[Any, ...]:
    """Return the options that only runs of one method share; older files have no hash, but say what was swapped."""
    options = run.config_hash or (run.preset, *(getattr(run, name) for name in SWAPS))
    return (options, run.protocol, run.greedy, run.total_frames)


def _labels(runs: list[AtariRun]) -> list[str]:
    """Name the method of each run by its preset and what was swapped; by more only where two names would be alike."""
    labels = pd.Series([_swapped(run) for run in runs])
    for describe in (
        lambda run: f"{run.total_frames:,} steps",
        lambda run: f"protocol {run.protocol}",
        lambda run: "greedy" if run.greedy else "sampled",
        lambda run: f"options {run.config_hash or 'unknown'}",
    ):
        parts = pd.Series([describe(run) for run in runs])
        differ = parts.groupby(labels).transform("nunique") > 1
        labels = labels.where(~differ, labels + ", " + parts)
    return labels.tolist()


def _swapped(run: AtariRun) -> str:
    """Return the preset and what is not GLAM's own; an ablation already names its backbone."""
    names = SWAPS if run.ablation == AtariRun.ablation else ("ablation", "objective")
    swapped = [f"{name} {getattr(run, name)}" for name in names if getattr(run, name) != getattr(AtariRun, name)]
    return ", ".join([run.preset, *swapped])


def _against_random(runs: pd.DataFrame, random_play: Iterable[AtariRun]) -> tuple[list[Any], list[float | None]]:
    """Return, for each run, the returns of random play and the p-value of its episodes against these."""
    played: dict[tuple[str, str], tuple[float, ...]] = {}
    for run in random_play:
        played[run.env, run.protocol] = played.get((run.env, run.protocol), ()) + run.returns
    random = [played.get(key) for key in zip(runs["env"], runs["protocol"], strict=True)]
    pairs = zip(runs["returns"], random, strict=True)
    return random, [None if other is None else better_than_random(own, other) for own, other in pairs]
