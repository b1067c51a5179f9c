"""Which methods can be aggregated over which games, and what has to be said of the rest.

``n`` seeds, ``g`` games.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from torchrl_glam.tools.report.limits import ALL_FRAMES, ALL_GAMES, MIN_GAMES, MIN_SEEDS
from torchrl_glam.tools.report.methods import Method
from torchrl_glam.tools.report.references import Scale, benchmark_game, normalise
from torchrl_glam.tools.report.runs import AtariRun


@dataclass(frozen=True)
class Panel:
    """Methods on games that all of them have played.

    Args:
        games: of the 26, in their order.
        methods: those with runs of all these games.
        runs: of each method, by its label: as many seeds of each game, ``[g][n]``.
        notes: what was left out, and of what there are too few seeds.
    """

    games: tuple[str, ...]
    methods: tuple[Method, ...]
    runs: dict[str, list[list[AtariRun]]]
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What the aggregates are of."""
        if len(self.games) < ALL_GAMES:
            return f"{len(self.games)} of the {ALL_GAMES} games"
        if all(method.first.total_frames == ALL_FRAMES for method in self.methods):
            return f"Atari 100k, all {ALL_GAMES} games"
        return f"all {ALL_GAMES} games"

    def scores(self, label: str, scale: Scale) -> np.ndarray:
        """A method's human-normalised scores ``[n g]``."""
        columns = zip(self.games, self.runs[label], strict=True)
        return np.array([[normalise(game, run.mean, scale) for run in column] for game, column in columns]).T

    def seeds(self, label: str) -> int:
        """``n`` of a method."""
        return len(self.runs[label][0])

    def enough(self) -> list[Method]:
        """Methods with seeds enough for intervals."""
        return [method for method in self.methods if self.seeds(method.label) >= MIN_SEEDS]


def make_panels(methods: Sequence[Method], scale: Scale) -> tuple[list[Panel], list[str]]:
    """A panel for each set of at least :data:`MIN_GAMES` games that a method has, with all methods that have these.

    So a method of 26 games is aggregated over all of them, and again over the 12 of another one, beside it.

    Returns:
        The panels, those of most games first, and a line for each method that is in none.
    """
    played = {method.label: _benchmark_games(method, scale) for method in methods}
    sets = {games for games in played.values() if len(games) >= MIN_GAMES}
    panels = []
    for games in sorted(sets, key=lambda games: (-len(games), games)):
        own = tuple(method for method in methods if set(games) <= set(played[method.label]))
        panels.append(_make_panel(games, own, scale))
    lines = []
    for label, games in played.items():
        if len(games) < MIN_GAMES:
            lines.append(f"{label}: {count(len(games), 'game')} of the {ALL_GAMES}, no aggregate.")
    return panels, lines


def count(number: int, noun: str) -> str:
    """A number of things.

    Examples:
        >>> count(1, "seed"), count(2, "seed")
        ('1 seed', '2 seeds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _benchmark_games(method: Method, scale: Scale) -> tuple[str, ...]:
    there = {benchmark_game(env, scale) for env in method.games}
    return tuple(game for game in scale if game in there)


def _make_panel(games: tuple[str, ...], methods: tuple[Method, ...], scale: Scale) -> Panel:
    """The panel, with as many seeds of each game as the game with the fewest has: the lowest ones."""
    panel = Panel(games, methods, {})
    for method in methods:
        by_game = {benchmark_game(env, scale): runs for env, runs in method.games.items()}
        fewest = min(len(by_game[game]) for game in games)
        panel.runs[method.label] = [by_game[game][:fewest] for game in games]
        more = [game for game in games if len(by_game[game]) > fewest]
        if more:
            left = sum(len(by_game[game]) - fewest for game in more)
            panel.notes.append(
                f"{method.label}: {count(fewest, 'seed')} in every game; {count(left, 'run')} of further seeds left "
                f"out ({', '.join(more)})."
            )
        if fewest < MIN_SEEDS:
            panel.notes.append(f"{method.label}: {count(fewest, 'seed')} per game, too few for an interval.")
    return panel
