"""Published scores, and which of the aggregates that papers print follow from them.

Published methods have one mean per game. Mean and median over games are functions of these. IQM and optimality gap are
not: they are defined over single runs, and computed from means the gap is too small (IRIS: 0.512, from its means
0.482).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from torchrl_glam.envs.scores import atari_100k_scores, read_data
from torchrl_glam.presentation import NOTHING
from torchrl_glam.tools.report.references import References, load_references, normalise
from torchrl_glam.tools.report.statistics import AS_HUMAN

TABLE = "GLAM's Table 1"
LEAGUE_NAMES = {"DreamerV3 (2023)": "DreamerV3"}  # to the names in Table 1
LEAGUE_SOURCES = {"raw": "league: from per-seed scores", "paper": "league: as the paper prints it"}

HALF = 0.5  # points: scores and references of Table 1 are rounded to whole ones
ROUNDING = 1e-9  # of floating-point numbers

CHECKED = ["method", "quantity", "computed", "low", "high", "printed", "source", "follows"]
QUANTITIES: dict[str, Callable[[Any], float]] = {
    "mean": np.mean,
    "median": np.median,
    "superhuman": lambda scores: float(np.sum(scores >= AS_HUMAN)),
}
"""Aggregates of one mean per game. Each grows with every score, so the scores' bounds give its bounds."""


def table1() -> pd.DataFrame:
    """Return GLAM's Table 1: the scores of published methods by game, and before them ``random`` and ``human``."""
    return pd.DataFrame.from_dict(atari_100k_scores(), orient="index", dtype=float)


def published_scores() -> pd.DataFrame:
    """Return the scores of the published methods by game; NaN where one was not reported."""
    return table1().drop(columns=["random", "human"])


def published_aggregates(games: Sequence[str], scale: pd.DataFrame) -> pd.DataFrame:
    """Return :data:`QUANTITIES` and the number of reported games of each published method in these games."""
    scores = published_scores().apply(normalise, references=scale).loc[list(games)]
    found = pd.DataFrame({name: {m: of(own.dropna()) for m, own in scores.items()} for name, of in QUANTITIES.items()})
    return found.assign(games=scores.count())[scores.count() > 0]


def league() -> pd.DataFrame:
    """Return ``data/league_atari100k.csv`` as texts."""
    return pd.DataFrame(read_data("league_atari100k.csv", "tools.report")).replace("", NOTHING)


def ablation_scores() -> pd.DataFrame:
    """Return GLAM's Table 2: mean scores by the ``ablation=`` of the row, and by game."""
    return pd.DataFrame(read_data("ablation_table2.csv", "tools.report")).set_index("variant").astype(float)


def check_published() -> pd.DataFrame:
    """Check each printed aggregate that can be computed from Table 1's scores and references.

    Returns:
        A row for each: ``method`` and ``quantity``; ``computed``, from Table 1; ``low`` and ``high``, its bounds, as
        Table 1 is rounded; ``printed``, with as many decimals as there; ``source``; and whether it ``follows``.
    """
    scores, scale = published_scores(), load_references(References.table1)
    printed = pd.DataFrame(read_data("printed_aggregates.csv", "tools.report"))
    of_league = league().melt(["method", "source"], ["mean", "median"], "quantity")
    of_league["method"] = of_league["method"].replace(LEAGUE_NAMES)
    of_league["source"] = of_league["source"].map(LEAGUE_SOURCES)
    rows = []
    for method, quantity, value, source in pd.concat([printed, of_league])[list(printed)].itertuples(index=False):
        if method in scores and value != NOTHING:
            own, of = scores[method].dropna(), QUANTITIES[quantity]
            references = scale.loc[own.index]
            low, high = map(of, score_bounds(own, references))
            computed = of(normalise(own, references))
            rows.append([method, quantity, computed, low, high, value, source, follows(value, low, high)])
    checks = pd.DataFrame(rows, columns=CHECKED)
    places = {"method": list(scores).index, "quantity": list(QUANTITIES).index}
    return checks.sort_values(list(places), key=lambda column: column.map(places[column.name]), kind="stable")


def score_bounds(scores: Any, references: Any) -> tuple[Any, Any]:
    """Return the least and the greatest human-normalised score, where all three numbers were rounded to whole points.

    It is monotonic in each of them, so the ends are at corners. The arguments are those of :func:`normalise`.

    Examples:
        >>> from torchrl_glam.envs.scores import ReferenceScores
        >>> low, high = score_bounds(15.0, ReferenceScores(-21.0, 15.0))  # Pong: 35 / 36 or 36 / 35
        >>> print(low, high)
        0.9722222222222222 1.0285714285714285
    """
    ends = [
        (scores + a - references.random - b) / (references.human + c - references.random - b)
        for a, b, c in itertools.product((-HALF, HALF), repeat=3)
    ]
    return np.minimum.reduce(ends), np.maximum.reduce(ends)


def follows(printed: str, low: float, high: float) -> bool:
    """Return True if a number between ``low`` and ``high`` can be printed like this.

    Examples:
        >>> follows("0.58", 0.5822, 0.6178), follows("0.579", 0.5822, 0.6178)
        (True, False)
    """
    places = len(printed.partition(".")[2])
    half = 0.5 * 10**-places if places else 0.0  # a count is not rounded
    return low - half - ROUNDING <= float(printed) <= high + half + ROUNDING


def complaint(check: Any) -> str:
    """Return a line on a printed number that does not follow; for a median, also the games it lies between."""
    text = (
        f"{check.method}'s {check.quantity} of {check.printed} ({check.source}) does not follow from {TABLE}: its "
        f"column gives {check.computed:.4f}, and with rounding between {check.low:.4f} and {check.high:.4f}"
    )
    if check.quantity != "median":
        return f"{text}."
    scores = normalise(table1()[check.method], load_references(References.table1)).dropna().sort_values(kind="stable")
    before, after = (len(scores) - 1) // 2, len(scores) // 2
    low, high = scores.iloc[before], scores.iloc[after]
    return f"{text} (it lies between {scores.index[before]}, {low:.3f}, and {scores.index[after]}, {high:.3f})."
