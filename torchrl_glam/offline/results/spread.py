"""Means over seeds, and their uncertainty."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FEWEST = 3
"""With fewer seeds a cell says that they are too few."""

# Student's t at 97.5 %, for 2 to 11 seeds. More seeds count as 11, which is cautious.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Spread:
    """Mean of a number for each seed, with the standard deviation over them (``None`` for one seed)."""

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Spread:
        """Return the spread of one number or more."""
        entries = list(numbers)
        deviation = statistics.stdev(entries) if len(entries) > 1 else None
        return cls(statistics.fmean(entries), deviation, len(entries))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean, by Student's t; ``None`` with too few seeds."""
        if self.deviation is None or self.seeds < FEWEST:
            return None
        half = STUDENT[min(self.seeds - 2, len(STUDENT) - 1)] * self.deviation / self.seeds**0.5
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        """Return mean ± deviation and the number of seeds.

        Examples:
            >>> print(Spread.of([10.0, 20.0, 30.0]), Spread.of([0.25]), sep="; ")
            20.0 ± 10.0 (3 seeds); 0.25 (1 seed: too few)
        """
        number = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        spread = "" if self.deviation is None else f" ± {decimals(self.deviation, self.mean)}"
        few = ": too few" if self.seeds < FEWEST else ""
        return f"{decimals(self.mean, self.mean)}{spread} ({number}{few})"


def decimals(value: float, scale: float) -> str:
    """Round to one decimal, or to two where ``scale`` is below 10."""
    return f"{value:.1f}" if abs(scale) >= 10 else f"{value:.2f}"


def best_of(spreads: Sequence[Spread | None]) -> int | None:
    """Return the place of the best mean, if its 95 % interval lies above that of every other; else ``None``.

    Examples:
        >>> low, high, wide = Spread.of([1, 2, 3]), Spread.of([21, 22, 23]), Spread.of([1, 20, 39])
        >>> best_of([low, high]), best_of([low, high, wide]), best_of([high])
        (1, None, None)
    """
    there = [(spread.mean, place) for place, spread in enumerate(spreads) if spread is not None]
    if len(there) < 2:
        return None
    best = max(there)[1]
    intervals = {place: spreads[place].interval for _, place in there}  # type: ignore[union-attr]
    own = intervals.pop(best)
    if own is None or any(other is None or other[1] >= own[0] for other in intervals.values()):
        return None
    return best
