"""What is too little to say anything of, in one place, each with its reason."""

from __future__ import annotations

from torchrl_glam.envs.scores import atari_100k_games
from torchrl_glam.offline.results.spread import FEWEST

ALL_GAMES = len(atari_100k_games())
"""Games that the words "Atari 100k" stand for; fewer are named by their number."""

ALL_FRAMES = 100_000
"""Environment steps of a run that the words stand for, and that the published scores are of."""

MIN_GAMES = 10
"""Games from which on there are aggregates.

A mean over games hangs on which games they are: that of GLAM's own published scores is 1.31 over all 26, while over 4
of them, drawn at random, it lies between 0.24 and 3.40 in nine draws of ten, and over 10 between 0.50 and 2.31. So even
those of 10 serve to compare methods on these games, and nothing else, which is why the published methods beside them
are restricted to the same games.
"""

MIN_SEEDS = FEWEST
"""Seeds, in every game, from which on there are intervals and probabilities of improvement.

The bootstrap draws seeds anew within each game. Of one seed there is one draw, of two there are three, two of which
have no spread: the interval would be too narrow, and look exact.
"""

GAMES_LINE = (
    f"Fewer than {MIN_GAMES} of the {ALL_GAMES} games give no aggregate: it would tell which games they are, and "
    "little of the method (over 4 games drawn at random, GLAM's published scores have a mean between 0.24 and 3.40)."
)
SEEDS_LINE = (
    f"Fewer than {MIN_SEEDS} seeds in any of the games give no interval and no probability of improvement: the "
    "bootstrap draws seeds anew, and of so few it would look more exact than it is."
)
NAME_LINE = f'"Atari 100k" is said of all {ALL_GAMES} games after {ALL_FRAMES:,} steps alone.'
