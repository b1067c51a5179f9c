"""Returns of the episodes of training against the step: of one run, and of a panel's methods over all games."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torchrl_glam.tools.report.panels import Panel, count
from torchrl_glam.tools.report.references import Scale, normalise
from torchrl_glam.tools.report.runs import AtariRun, Curve
from torchrl_glam.tools.report.statistics import Bootstrap, Estimate

WINDOW = 10
"""Episodes that a point of a curve is the mean of; fewer while there are fewer."""

POINTS = 40
"""Steps at which a panel's curve is worked out."""


def moving_average(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which episodes ended, and the mean return of the last :data:`WINDOW` by then, or of what there is.

    Examples:
        >>> steps, means = moving_average(((100, 1.0), (200, 3.0), (300, 5.0)))
        >>> means.tolist()
        [1.0, 2.0, 3.0]
    """
    steps, returns = np.array(curve, dtype=float).reshape(-1, 2).T
    sums = np.concatenate([[0.0], returns.cumsum()])
    ends = np.arange(1, len(returns) + 1)
    begins = np.maximum(ends - WINDOW, 0)
    return steps, (sums[ends] - sums[begins]) / (ends - begins)


def value_at(curve: Curve, steps: np.ndarray) -> np.ndarray:
    """The moving average at each of ``steps``: that of the newest episode by then; NaN before the first has ended.

    Examples:
        >>> value_at(((100, 1.0), (200, 3.0)), np.array([50, 100, 250])).tolist()
        [nan, 1.0, 2.0]
    """
    ended, means = moving_average(curve)
    newest = np.searchsorted(ended, steps, side="right")
    return np.concatenate([[np.nan], means])[newest]


def panel_curves(
    panel: Panel, scale: Scale, bootstrap: Bootstrap
) -> tuple[dict[str, tuple[np.ndarray, list[Estimate]]], list[str]]:
    """IQM over games and seeds of the human-normalised return in training, against the step.

    A method's curve begins where the first episode has ended in each of its runs.

    Returns:
        By method: steps and estimates; and a line for each method that has none.
    """
    found, notes = {}, []
    for method in panel.methods:
        columns = panel.runs[method.label]
        without = [run for column in columns for run in column if not run.curve]
        if without:
            notes.append(f"{method.label}: no sample-efficiency curve, {count(len(without), 'run')} without episodes.")
            continue
        steps = np.linspace(0, method.first.total_frames, POINTS + 1)[1:]
        scores = np.array(
            [_column(game, column, steps, scale) for game, column in zip(panel.games, columns, strict=True)]
        )
        begun = ~np.isnan(scores).any(axis=(0, 1))
        if begun.sum() < 2:
            notes.append(f"{method.label}: no sample-efficiency curve, its runs end too few episodes.")
            continue
        found[method.label] = (steps[begun], bootstrap.curve(scores[..., begun].swapaxes(0, 1)))
    return found, notes


def _column(game: str, runs: Sequence[AtariRun], steps: np.ndarray, scale: Scale) -> np.ndarray:
    """Human-normalised curves of a game's runs ``[n t]``."""
    zero, one = (normalise(game, value, scale) for value in (0.0, 1.0))
    return np.array([zero + (one - zero) * value_at(run.curve or (), steps) for run in runs])
