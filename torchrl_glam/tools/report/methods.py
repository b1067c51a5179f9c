"""Runs that differ in seed and game alone are one method; a method has a name that says what it is."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torchrl_glam.envs import PROTOCOLS
from torchrl_glam.tools.report.runs import DEFAULTS, AtariRun, check_once

SWAPS = ("ablation", "dynamics", "objective")


@dataclass(frozen=True)
class Method:
    """One method's runs.

    Args:
        label: short, and no other method's.
        runs: sorted by environment and seed, each of these once.
    """

    label: str
    runs: tuple[AtariRun, ...]

    @property
    def first(self) -> AtariRun:
        """Any of the runs, for what all of them share."""
        return self.runs[0]

    @property
    def games(self) -> dict[str, list[AtariRun]]:
        """The runs of each environment."""
        games: dict[str, list[AtariRun]] = {}
        for run in self.runs:
            games.setdefault(run.env, []).append(run)
        return games

    def scores(self, env: str) -> list[float]:
        """Each seed's mean return, in game points."""
        return [run.mean for run in self.games[env]]


def make_methods(runs: Iterable[AtariRun]) -> tuple[list[Method], list[str]]:
    """Group runs by their options' hash, steps, protocol and the evaluation's actions.

    Old files have no hash: theirs are grouped by what was swapped, as far as the file says it.

    Returns:
        The methods, those with the most games first, and a line for each copy left out.

    Raises:
        UsageError: if a method has two different results of one seed in one environment.
    """
    groups: dict[tuple[Any, ...], list[AtariRun]] = {}
    for run in sorted(runs, key=lambda run: (run.env, run.seed, str(run.path))):
        groups.setdefault(_key(run), []).append(run)
    methods, left_out = [], []
    for label, group in zip(_labels([group[0] for group in groups.values()]), groups.values(), strict=True):
        own, copies = check_once(label, group)
        methods.append(Method(label, tuple(own)))
        left_out += copies
    return sorted(methods, key=lambda method: (-len(method.games), method.label)), left_out


def protocol_line(protocol: str) -> str:
    """A protocol in words.

    Examples:
        >>> protocol_line("glam")
        '`glam`: sticky actions 0.25, no no-ops'
        >>> protocol_line("standard")
        '`standard`: no sticky actions, up to 30 no-ops'
    """
    if protocol not in PROTOCOLS:
        return f"`{protocol}`"
    rules = PROTOCOLS[protocol]
    sticky = f"sticky actions {rules.repeat_action_probability:g}" if rules.repeat_action_probability else ""
    noops = f"up to {rules.noop_max} no-ops" if rules.noop_max else "no no-ops"
    return f"`{protocol}`: {sticky or 'no sticky actions'}, {noops}"


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Mean of those that are known."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _key(run: AtariRun) -> tuple[Any, ...]:
    measured = (run.protocol, run.greedy, run.total_frames)
    if run.config_hash is not None:
        return (run.config_hash, *measured)
    return (None, run.preset, *(getattr(run, name) for name in SWAPS), *measured)


def _labels(runs: Sequence[AtariRun]) -> list[str]:
    """A name for the method of each run: its preset and what was swapped; more only where two would be alike."""
    names = [_swapped(run) for run in runs]
    for describe in (_frames, _protocol, _actions, _hash):
        counts = Counter(names)
        names = [
            f"{name}, {describe(run)}" if counts[name] > 1 and _differ(name, names, runs, describe) else name
            for name, run in zip(names, runs, strict=True)
        ]
    return names


def _differ(name: str, names: Sequence[str], runs: Sequence[AtariRun], describe: Any) -> bool:
    return len({describe(run) for other, run in zip(names, runs, strict=True) if other == name}) > 1


def _swapped(run: AtariRun) -> str:
    """Preset, and what is not GLAM's own; an ablation names its backbone already."""
    names = ["ablation", *([] if run.ablation != DEFAULTS["ablation"] else ["dynamics"]), "objective"]
    swapped = [f"{name} {getattr(run, name)}" for name in names if getattr(run, name) != DEFAULTS[name]]
    return ", ".join([run.preset, *swapped])


def _frames(run: AtariRun) -> str:
    return f"{run.total_frames:,} steps"


def _protocol(run: AtariRun) -> str:
    return f"protocol {run.protocol}"


def _actions(run: AtariRun) -> str:
    return "greedy" if run.greedy else "sampled"


def _hash(run: AtariRun) -> str:
    return f"options {run.config_hash or 'unknown'}"
