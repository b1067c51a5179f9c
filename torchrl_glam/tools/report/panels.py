"""Aggregates over the games that methods share, and lines on the methods and runs that have none.

``n`` seeds, ``g`` games, ``t`` steps of training, ``x`` thresholds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from torchrl_glam.presentation import count
from torchrl_glam.tools.report.limits import ALL_FRAMES, ALL_GAMES, MIN_GAMES, MIN_SEEDS
from torchrl_glam.tools.report.published import published_aggregates
from torchrl_glam.tools.report.references import normalise
from torchrl_glam.tools.report.statistics import (
    AGGREGATES,
    AS_HUMAN,
    Bootstrap,
    aggregates,
    interquartile_means,
    performance_profile,
    probability_of_improvement,
)

IMPROVEMENT = "probability of improvement"
COLUMNS = ["games", "method", "whose", "seeds", "quantity", "value", "low", "high"]  # of Panel.aggregates
WINDOW = 10  # episodes of the moving average of a learning curve; fewer at its start
FEW = 20  # points of a curve below which each is marked
POINTS = 40  # steps at which a panel's learning curve is computed

Lines = dict[str, tuple[np.ndarray, np.ndarray]]
"""For each method's label: places on the horizontal axis ``[x]``, and estimates with their intervals ``[x 3]``."""


@dataclass(frozen=True)
class Panel:
    """Methods on games that all of them have played, and their aggregates.

    Args:
        games: of the 26, in their order.
        runs: of these methods and games, with equally many seeds in each game of a method.
        notes: lines on runs left out, and on methods with too few seeds.
        scale: ``random`` and ``human`` scores by game.
        bootstrap: of the intervals.
        suffix: of the names of its pictures.
    """

    games: tuple[str, ...]
    runs: pd.DataFrame
    notes: list[str]
    scale: pd.DataFrame
    bootstrap: Bootstrap
    suffix: str = ""

    @property
    def title(self) -> str:
        """The games in words."""
        if len(self.games) < ALL_GAMES:
            return f"{len(self.games)} of the {ALL_GAMES} games"
        return f"{'Atari 100k, ' if (self.runs['total_frames'] == ALL_FRAMES).all() else ''}all {ALL_GAMES} games"

    @property
    def methods(self) -> pd.DataFrame:
        """A run of each method by its label, for what all its runs share; ``seeds`` is their number in each game."""
        firsts = self.runs.drop_duplicates("method").set_index("method")
        return firsts.assign(seeds=self.runs["method"].value_counts() // len(self.games))

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """The human-normalised scores ``[n g]`` of each method."""
        by_method = self.runs.sort_values(["env", "seed"]).groupby("method", observed=True)["normalised"]
        return {label: own.to_numpy().reshape(len(self.games), -1).T for label, own in by_method}

    @cached_property
    def aggregates(self) -> pd.DataFrame:
        """A row for each number, with the ends of its interval in ``low`` and ``high``.

        ``quantity`` is one of :data:`AGGREGATES`, "superhuman" (games in which the mean over seeds reaches the human
        score) or :data:`IMPROVEMENT`, where ``method`` is "one > other". ``whose`` is "ours" or "published".
        """
        rows: list[list[object]] = []
        for label, own in self.scores.items():
            estimates = self.bootstrap.estimate(aggregates, own)
            numbers = {**dict(zip(AGGREGATES, estimates, strict=True)), "superhuman": [(own.mean(0) >= AS_HUMAN).sum()]}
            rows += [[len(self.games), label, "ours", len(own), name, *number] for name, number in numbers.items()]
        enough = self.methods[self.methods["seeds"] >= MIN_SEEDS]["protocol"]
        for one, other in itertools.combinations(enough.index, 2):
            if enough[one] == enough[other]:
                (chance,) = self.bootstrap.estimate(probability_of_improvement, self.scores[one], self.scores[other])
                rows.append([len(self.games), f"{one} > {other}", "ours", None, IMPROVEMENT, *chance])
        for method, own in published_aggregates(self.games, self.scale).iterrows():
            games = own.pop("games")
            rows += [[games, method, "published", None, name, number] for name, number in own.items()]
        table = pd.DataFrame(rows, columns=COLUMNS)
        return table.astype({"games": int, "seeds": "Int64", "low": float, "high": float})


def make_panels(runs: pd.DataFrame, scale: pd.DataFrame, bootstrap: Bootstrap) -> tuple[list[Panel], list[str]]:
    """Make a panel for each set of at least :data:`MIN_GAMES` games of a method, with all methods that have these.

    A method of 26 games is aggregated over all of them, and again over the 12 games of another method, beside it.

    Args:
        runs: the table of :func:`~torchrl_glam.tools.report.methods.tabulate_runs`.
        scale: ``random`` and ``human`` scores by game.
        bootstrap: of the intervals.

    Returns:
        The panels, those with the most games first, and a line for each method that is in none.
    """
    by_method = runs.groupby("method", observed=True)
    played = {label: tuple(sorted(own["game"].dropna().unique())) for label, own in by_method}
    sets = {games for games in played.values() if len(games) >= MIN_GAMES}
    panels: list[Panel] = []
    for games in sorted(sets, key=lambda games: (-len(games), games)):
        methods = [label for label, own in played.items() if set(games) <= set(own)]
        own, notes = _even_seeds(runs[runs["game"].isin(games) & runs["method"].isin(methods)])
        panels.append(Panel(games, own, notes, scale, bootstrap, f"-{len(panels) + 1}" if panels else ""))
    few = {label: len(games) for label, games in played.items() if len(games) < MIN_GAMES}
    return panels, [f"{label}: {count(num, 'game')} of the {ALL_GAMES}, no aggregate." for label, num in few.items()]


def _even_seeds(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep as many seeds of each game as the game with the fewest has, the lowest ones; return also the notes."""
    by_game, notes = runs.groupby(["method", "game"], observed=True), []
    seeds = by_game.size().unstack()
    fewest = seeds.min(axis=1).to_dict()
    for label, own in seeds.iterrows():
        few = count(fewest[label], "seed")
        more = own[own > fewest[label]] - fewest[label]
        if len(more):
            left_out = f"{count(more.sum(), 'run')} of further seeds left out ({', '.join(more.index)})"
            notes.append(f"{label}: {few} in every game; {left_out}.")
        if fewest[label] < MIN_SEEDS:
            notes.append(f"{label}: {few} per game, too few for an interval.")
    return runs[by_game.cumcount() < runs["method"].astype(str).map(fewest)], notes


def profiles(panel: Panel) -> Lines:
    """Compute performance profiles, at thresholds from 0 to nearly the best run, at most 8."""
    best = max(np.quantile(own, 0.98) for own in panel.scores.values())
    thresholds = np.linspace(0, min(max(np.ceil(best), 1.0), 8.0), 81)
    profile = partial(performance_profile, thresholds=thresholds)
    return {label: (thresholds, panel.bootstrap.estimate(profile, own)) for label, own in panel.scores.items()}


def moving_average(curve: pd.Series) -> pd.Series:
    """Return the mean return of the last :data:`WINDOW` episodes, or of fewer at the start, at each episode's end.

    Examples:
        >>> moving_average(pd.Series([1.0, 3.0, 5.0], index=[100, 200, 300])).to_dict()
        {100: 1.0, 200: 2.0, 300: 3.0}
    """
    return curve.rolling(WINDOW, min_periods=1).mean()


def few_marker(curve: pd.Series) -> str:
    """Return the marker of a curve's points: a line of one or a few points could not be seen without."""
    return "." if len(curve) < FEW else ""


def learning_curves(panel: Panel) -> tuple[Lines, list[str]]:
    """Compute the IQM over games and seeds of the human-normalised return in training, against the step.

    The return at a step is the moving average at the newest episode's end. A method's curve begins where the first
    episode has ended in each of its runs.

    Returns:
        The curves, and a line for each method that has none.
    """
    found, notes = {}, []
    for label, first in panel.methods.iterrows():
        runs = panel.runs[panel.runs["method"] == label].sort_values(["env", "seed"])
        if without := runs["curve"].isna().sum():
            notes.append(f"{label}: no sample-efficiency curve, {count(without, 'run')} without episodes.")
            continue
        steps = np.linspace(0, first["total_frames"], POINTS + 1)[1:]
        curves = [normalise(moving_average(run.curve).asof(steps), run).to_numpy() for run in runs.itertuples()]
        scores = np.reshape(curves, (len(panel.games), -1, len(steps)))
        begun = ~np.isnan(scores).any(axis=(0, 1))
        if begun.sum() < 2:
            notes.append(f"{label}: no sample-efficiency curve, its runs end too few episodes.")
            continue
        found[label] = (steps[begun], panel.bootstrap.estimate(interquartile_means, scores[..., begun].swapaxes(0, 1)))
    return found, notes
