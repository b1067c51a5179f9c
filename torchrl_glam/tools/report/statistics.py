"""Aggregates with intervals by rliable, and tests by scipy: the one module that imports these optional packages.

``n`` seeds, ``g`` games, ``t`` steps of training, ``x`` thresholds. Scores are human-normalised. Definitions: Agarwal
et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.limits import MIN_SEEDS

AGGREGATES = ("mean", "median", "IQM", "optimality gap")
"""Mean and median of the games' means over seeds; mean of the middle half of all runs; how far runs that do not reach
the human score fall short of it, on average."""

AS_HUMAN = 1 - 1e-9  # reaches the human score, but for rounding: IRIS's Pong is exactly human, and counted


@dataclass(frozen=True)
class Estimate:
    """A number, and its 95 % interval if there are seeds enough for one."""

    point: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Three places.

        Examples:
            >>> print(Estimate(1.0459, 0.8, 1.25), Estimate(0.5), sep="; ")
            1.046 [0.800, 1.250]; 0.500
        """
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.point:.3f}{interval}"


def load_rliable() -> tuple[Any, Any]:
    """rliable's ``library`` and ``metrics``.

    Raises:
        UsageError: if they cannot be imported, which names the extra that they come with.
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
    """Stratified bootstrap of 95 %: seeds are drawn anew within each game, games are not.

    Args:
        resamples: number of them.
        seed: each estimate starts from it anew, so that none depends on which others are made.
    """

    resamples: int = 2000
    seed: int = 0

    def aggregates(self, scores: np.ndarray) -> dict[str, Estimate]:
        """:data:`AGGREGATES` of ``scores [n g]``; intervals from :data:`MIN_SEEDS` seeds on."""
        _, metrics = load_rliable()

        def all_of_them(resampled: np.ndarray) -> np.ndarray:
            of = (metrics.aggregate_mean, metrics.aggregate_median, metrics.aggregate_iqm)
            return np.array([*(one(resampled) for one in of), metrics.aggregate_optimality_gap(resampled)])

        return dict(zip(AGGREGATES, self._estimates(scores, all_of_them), strict=True))

    def improvement(self, scores: np.ndarray, others: np.ndarray) -> Estimate:
        """Probability that a run of ``scores [n g]`` beats one of ``others [m g]`` in a game, mean over games."""
        return self._estimates([scores, others], lambda x, y: np.array([probability_of_improvement(x, y)]))[0]

    def profile(self, scores: np.ndarray, thresholds: np.ndarray) -> list[Estimate]:
        """Share of the runs of ``scores [n g]`` above each of ``thresholds [x]``."""
        return self._estimates(scores, lambda resampled: performance_profile(resampled, thresholds))

    def curve(self, scores: np.ndarray) -> list[Estimate]:
        """IQM over seeds and games at each step, of ``scores [n g t]``."""
        return self._estimates(scores, interquartile_means)

    def _estimates(self, scores: Any, function: Callable[..., np.ndarray]) -> list[Estimate]:
        arrays = scores if isinstance(scores, list) else [scores]
        if min(len(array) for array in arrays) < MIN_SEEDS:
            return [Estimate(float(point)) for point in function(*arrays)]
        library, _ = load_rliable()
        with numpy_seed(self.seed):
            points, intervals = library.get_interval_estimates({"": scores}, function, reps=self.resamples)
        rows = zip(points[""], *intervals[""], strict=True)
        return [Estimate(*map(float, row)) for row in rows]


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> float:
    """``P(X > Y) + P(X = Y) / 2`` over pairs of seeds of ``scores [n g]`` and ``others [m g]``, mean over games.

    What rliable's function of the name gives, Mann-Whitney's U divided by ``n m``, without working out a p-value for
    each game, which takes a hundred times as long.
    """
    greater = scores[:, None] > others[None]
    equal = scores[:, None] == others[None]
    return float(np.mean(greater + 0.5 * equal))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of the runs of ``scores [n g]`` above each of ``thresholds [x]``."""
    ordered = np.sort(scores, axis=None)
    return 1 - np.searchsorted(ordered, thresholds, side="right") / ordered.size


def interquartile_means(scores: np.ndarray) -> np.ndarray:
    """IQM over seeds and games at each step, of ``scores [n g t]``."""
    from scipy.stats import trim_mean  # comes with rliable

    return np.asarray(trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0))


def better_than_random(returns: Sequence[float], random: Sequence[float]) -> float:
    """One-sided p-value of Mann-Whitney's U test: would episodes of random play be as good as these by chance?

    Args:
        returns: of a run's episodes.
        random: of episodes of random play, of the same game under the same protocol.

    Returns:
        The p-value; 1 where all episodes are alike.
    """
    load_rliable()
    from scipy.stats import mannwhitneyu  # comes with rliable

    if len({*returns, *random}) == 1:
        return 1.0
    return float(mannwhitneyu(returns, random, alternative="greater").pvalue)


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which rliable 1.2 draws from whatever it is given, and put it back after."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
