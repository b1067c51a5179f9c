"""Published methods: what their per-game scores give, and where what their papers print does not follow from these.

Of published methods there is one mean per game. Mean and median over games are functions of these. IQM and optimality
gap are not: they are of single runs, and a gap worked out of means comes out smaller (IRIS's: 0.512, of its means
0.482).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torchrl_glam.envs.scores import ReferenceScores, atari_100k_scores, read_data
from torchrl_glam.tools.report.references import References, Scale, load_references, normalise
from torchrl_glam.tools.report.statistics import AS_HUMAN

TABLE = "GLAM's Table 1"
LEAGUE_NAMES = {"DreamerV3": "DreamerV3 (2023)"}
"""Methods that the league calls otherwise than Table 1."""

HALF = 0.5  # points: scores and references of Table 1 are rounded to whole ones
ROUNDING = 1e-9  # of the machine

ABLATIONS = {
    "double_transformer": "double_transformer",
    "double_mamba": "double_mamba",
    "without_g_and_l": "storm (w/o G and L)",
    "without_g": "lmamba_only (w/o G)",
    "without_variation_loss": "no_l_var",
    "none": "glam",
}
"""The rows of Table 2 by the options ``ablation=``."""


@dataclass(frozen=True)
class Check:
    """A printed aggregate beside the one that the per-game scores give.

    Args:
        method, quantity: what of whom.
        computed: from Table 1.
        low, high: what it may be, the scores and references of Table 1 being rounded.
        printed: as it is printed, with as many places.
        source: where.
    """

    method: str
    quantity: str
    computed: float
    low: float
    high: float
    printed: str
    source: str

    @property
    def follows(self) -> bool:
        """Whether the printed number is one that the per-game scores can give, both being rounded."""
        places = len(self.printed.partition(".")[2])
        half = 0.5 * 10**-places if places else 0.0  # a count is not rounded
        return self.low - half - ROUNDING <= float(self.printed) <= self.high + half + ROUNDING


def median(scores: Sequence[float]) -> float:
    """The middle one, or the mean of the two."""
    return statistics.median(scores)


def superhuman(scores: Sequence[float]) -> float:
    """Games in which the human score is reached."""
    return float(sum(score >= AS_HUMAN for score in scores))


QUANTITIES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "median": median,
    "superhuman": superhuman,
}
"""What can be worked out of one mean per game; each grows with every score, so its bounds are those of the scores'."""


def published_methods() -> tuple[str, ...]:
    """The methods of Table 1, in its order."""
    columns = next(iter(atari_100k_scores().values()))
    return tuple(column for column in columns if column not in ("random", "human"))


def published_scores(method: str, games: Sequence[str], scale: Scale) -> list[float]:
    """A published method's human-normalised scores in these games, as far as they were reported."""
    table = atari_100k_scores()
    scores = {game: table[game][method] for game in games}
    return [normalise(game, score, scale) for game, score in scores.items() if score is not None]


def check_published() -> list[Check]:
    """Every printed aggregate that Table 1's scores allow to be worked out, from its own references."""
    printed = [
        (row["method"], row["quantity"], row["value"], row["source"])
        for row in read_data("printed_aggregates.csv", "tools.report")
    ]
    league = {row["method"]: row for row in league_rows()}
    for method in published_methods():
        row = league.get(LEAGUE_NAMES.get(method, method), {})
        source = {"raw": "league: from per-seed scores", "paper": "league: as the paper prints it"}
        printed += [
            (method, quantity, row[quantity], source[row["source"]])
            for quantity in ("mean", "median")
            if row.get(quantity)
        ]
    order = {method: place for place, method in enumerate(published_methods())}
    checks = [_check(*entry) for entry in printed]
    return sorted(checks, key=lambda check: (order[check.method], list(QUANTITIES).index(check.quantity)))


def league_rows() -> list[dict[str, str]]:
    """The rows of ``data/league_atari100k.csv``, as texts."""
    return read_data("league_atari100k.csv", "tools.report")


def ablation_scores() -> dict[str, dict[str, float]]:
    """GLAM's Table 2, the mean score by the ``ablation=`` that is the row's, and by game."""
    rows = {
        row.pop("variant"): {game: float(score) for game, score in row.items()}
        for row in read_data("ablation_table2.csv", "tools.report")
    }
    return {option: rows[variant] for option, variant in ABLATIONS.items()}


def score_bounds(score: float, reference: ReferenceScores) -> tuple[float, float]:
    """The least and the greatest human-normalised score, where all three numbers were rounded to whole points.

    It is monotonic in each of them, so that the ends lie at corners.

    Examples:
        >>> score_bounds(15.0, ReferenceScores(-21.0, 15.0))  # Pong: 35 / 36 or 36 / 35
        (0.9722222222222222, 1.0285714285714285)
    """
    ends = [
        (score + a - reference.random - b) / (reference.human + c - reference.random - b)
        for a, b, c in itertools.product((-HALF, HALF), repeat=3)
    ]
    return min(ends), max(ends)


def _check(method: str, quantity: str, value: str, source: str) -> Check:
    scale, of = load_references(References.table1), QUANTITIES[quantity]
    scores = {game: row[method] for game, row in atari_100k_scores().items()}
    bounds = [score_bounds(score, scale[game]) for game, score in scores.items() if score is not None]
    computed = of(published_scores(method, list(scores), scale))
    return Check(
        method, quantity, computed, of([low for low, _ in bounds]), of([high for _, high in bounds]), value, source
    )
