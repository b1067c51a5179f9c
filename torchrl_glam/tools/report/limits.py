"""Least amount of data for an aggregate, each limit with its reason."""

from __future__ import annotations

from torchrl_glam.envs.scores import atari_100k_games
from torchrl_glam.offline.results.spread import FEWEST

ALL_GAMES = len(atari_100k_games())
"""Number of games of the benchmark "Atari 100k"; a study of fewer games says how many it has."""

ALL_FRAMES = 100_000
"""Environment steps of a run of the benchmark; the published scores are those after so many steps."""

MIN_GAMES = 10
"""Least number of games for an aggregate.

A mean over games depends on the choice of games. GLAM's own published scores have a mean of 1.31 over all 26. Over 4
games drawn at random, it lies between 0.24 and 3.40 in nine draws of ten, and over 10 games between 0.50 and 2.31. So
even 10 games only serve to compare methods on these games. Therefore published methods beside them are restricted to
the same games.
"""

MIN_SEEDS = FEWEST
"""Least number of seeds, in every game, for an interval and a probability of improvement.

The bootstrap resamples seeds within each game. One seed has one resample. Two seeds have three, two of them without any
spread: the interval would be too narrow, and look exact.
"""

GAMES_LINE = (
    f"Fewer than {MIN_GAMES} of the {ALL_GAMES} games give no aggregate: it would depend on the choice of games more "
    "than on the method (over 4 games drawn at random, GLAM's published scores have a mean between 0.24 and 3.40)."
)
SEEDS_LINE = (
    f"Fewer than {MIN_SEEDS} seeds in any of the games give no interval and no probability of improvement: the "
    "bootstrap resamples seeds, and with so few it would look more exact than it is."
)
NAME_LINE = f'"Atari 100k" is only said of all {ALL_GAMES} games after {ALL_FRAMES:,} steps.'
