"""Aggregates with intervals by rliable, and tests by scipy. The only module that imports these optional packages.

``n`` seeds, ``g`` games, ``t`` steps of training, ``x`` thresholds. Scores are human-normalised. Definitions: Agarwal
et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.limits import MIN_SEEDS

AGGREGATES = ("mean", "median", "IQM", "optimality gap")
"""Mean and median of the games' means over seeds; mean of the middle half of all runs; mean shortfall of the runs from
the human score, where 0 is a run that reaches it."""

AS_HUMAN = 1 - 1e-9  # reaches the human score, except for rounding: IRIS's Pong is exactly human, and counted


def load_rliable() -> tuple[Any, Any]:
    """Import rliable's ``library`` and ``metrics``.

    Raises:
        UsageError: if they cannot be imported; the line names the extra that installs them.
    """
    try:
        from rliable import library, metrics
    except ImportError as error:  # missing, or beside a pandas that it cannot use
        raise UsageError(
            f"the report takes its intervals from rliable, which cannot be imported ({error}): "
            'pip install "torchrl_glam[report]"'
        ) from error
    return library, metrics


@dataclass(frozen=True)
class Bootstrap:
    """Stratified bootstrap for 95 % intervals: seeds are resampled within each game, games are not.

    Args:
        resamples: number of them.
        seed: of the random numbers; each call starts from it, so that no estimate depends on the others.
    """

    resamples: int = 2000
    seed: int = 0

    def estimate(self, function: Callable[..., np.ndarray], *scores: np.ndarray) -> np.ndarray:
        """Return the numbers of ``function(*scores)`` with their intervals.

        Args:
            function: returns ``k`` numbers.
            scores: arrays ``[n g ...]``; the number of seeds may differ.

        Returns:
            ``[k 3]``: the number and the ends of its interval, NaN below :data:`MIN_SEEDS` seeds.
        """
        if min(map(len, scores)) < MIN_SEEDS:
            return np.array([[point, np.nan, np.nan] for point in function(*scores)])
        library, _ = load_rliable()
        given = {"": scores[0] if len(scores) == 1 else list(scores)}
        with numpy_seed(self.seed):
            points, intervals = library.get_interval_estimates(given, function, reps=self.resamples)
        return np.column_stack([points[""], *intervals[""]])


def show_estimate(point: float, low: float, high: float) -> str:
    """Return a number, and its interval if there is one, with three decimals.

    Examples:
        >>> print(show_estimate(1.0459, 0.8, 1.25), show_estimate(0.5, math.nan, math.nan), sep="; ")
        1.046 [0.800, 1.250]; 0.500
    """
    return f"{point:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def aggregates(scores: np.ndarray) -> np.ndarray:
    """Return :data:`AGGREGATES` of ``scores [n g]``."""
    _, metrics = load_rliable()
    of = (metrics.aggregate_mean, metrics.aggregate_median, metrics.aggregate_iqm, metrics.aggregate_optimality_gap)
    return np.array([function(scores) for function in of])


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return ``P(X > Y) + P(X = Y) / 2`` over pairs of seeds of ``scores [n g]`` and ``others [m g]``, mean over games.

    It equals rliable's function of this name, Mann-Whitney's U divided by ``n m``. That one also computes a p-value for
    each game, which takes a hundred times as long. The result has one entry.
    """
    greater = scores[:, None] > others[None]
    equal = scores[:, None] == others[None]
    return np.array([np.mean(greater + 0.5 * equal)])


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the share of the runs of ``scores [n g]`` above each of ``thresholds [x]``."""
    ordered = np.sort(scores, axis=None)
    return 1 - np.searchsorted(ordered, thresholds, side="right") / ordered.size


def interquartile_means(scores: np.ndarray) -> np.ndarray:
    """Return the IQM over seeds and games at each step, of ``scores [n g t]``."""
    from scipy.stats import trim_mean  # comes with rliable

    return np.asarray(trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0))


def better_than_random(returns: Sequence[float], random: Sequence[float]) -> float:
    """Return the p-value of Mann-Whitney's one-sided U test that a run plays better than random play.

    Args:
        returns: of a run's episodes.
        random: of episodes of random play, of the same game under the same protocol.

    Returns:
        The p-value; 1 where all episodes are equal.
    """
    load_rliable()
    from scipy.stats import mannwhitneyu  # comes with rliable

    if len({*returns, *random}) == 1:
        return 1.0
    return float(mannwhitneyu(returns, random, alternative="greater").pvalue)


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, the only one that rliable 1.2 uses, and restore its state afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
