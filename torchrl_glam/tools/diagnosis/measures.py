"""Measures of predictions against what happened: pure functions on tensors.

``n`` steps, ``h`` horizon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Detection:
    """Counts of how well rare events are predicted.

    Args:
        number: steps.
        real: steps with the event.
        said: steps for which it was predicted.
        found: real ones that were predicted.
        right: predicted ones that were real; with a tolerance in time this may differ from ``found``.
        ranking: the probability that a step with the event scores higher than one without (area under the ROC curve);
            0.5 is chance. ``None`` where one of the two kinds does not occur.
        recall, precision: ``found`` of ``real``, ``right`` of ``said``; ``None`` of none.
    """

    number: int
    real: int
    said: int
    found: int
    right: int
    ranking: float | None = None
    recall: float | None = field(init=False)
    precision: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.recall = self.found / self.real if self.real else None
        self.precision = self.right / self.said if self.said else None


def detect(
    real: Tensor, said: Tensor, score: Tensor, *, near_real: Tensor | None = None, near_said: Tensor | None = None
) -> Detection:
    """Count hits and misses.

    Args:
        real, said: bool ``[n]``.
        score: ``[n]``, by which ``said`` was decided.
        near_real, near_said: the same with a tolerance, see :func:`widen`; by default ``real`` and ``said``.

    Examples:
        >>> import torch
        >>> said = torch.tensor([0.9, 0.2, 0.8]) > 0.5
        >>> detect(torch.tensor([True, True, False]), said, torch.tensor([0.9, 0.2, 0.8])).recall
        0.5
    """
    found = real & (said if near_said is None else near_said)
    right = said & (real if near_real is None else near_real)
    number_real, number_said, number_found, number_right = (int(flags.sum()) for flags in (real, said, found, right))
    return Detection(real.numel(), number_real, number_said, number_found, number_right, ranking(score, real))


def widen(flags: Tensor) -> Tensor:
    """Return ``flags [n h]``, true also where the step before or after is."""
    wide = flags.clone()
    wide[:, 1:] |= flags[:, :-1]
    wide[:, :-1] |= flags[:, 1:]
    return wide


def ranking(score: Tensor, real: Tensor) -> float | None:
    """Return the area under the ROC curve of ``score [n]``, ties counted by half; see :class:`Detection`."""
    with_event, without = score[real], score[~real].sort().values
    if not len(with_event) or not len(without):
        return None
    below = torch.searchsorted(without, with_event, side="left")
    not_above = torch.searchsorted(without, with_event, side="right")
    return ((below + not_above).double().mean() / (2 * len(without))).item()


def discounted_returns(reward: Tensor, terminated: Tensor, ends: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Compute ``G_i = r_i + gamma * G_{i+1}``, cut at terminations and ends.

    Args:
        reward: ``[n]``, consecutive.
        terminated: bool ``[n]``: the return ends with this step's reward.
        ends: bool ``[n]``: what follows this step is unknown, or of another episode.
        gamma: discount.

    Returns:
        The known part of the returns, ``[n]`` in float64, and the discount ``[n]`` of the first unknown reward, 0
        where all are known.
    """
    returns, rests, value, rest = [], [], 0.0, 1.0
    for step in zip(*(entry.flip(0).tolist() for entry in (reward, terminated, ends)), strict=True):
        reward_of_step, terminates, is_last = step
        if terminates or is_last:
            value, rest = 0.0, float(not terminates)
        value, rest = reward_of_step + gamma * value, gamma * rest
        returns.append(value)
        rests.append(rest)
    return torch.tensor(returns, dtype=torch.float64).flip(0), torch.tensor(rests, dtype=torch.float64).flip(0)


@dataclass
class Calibration:
    """Values against the returns that followed.

    Args:
        number: steps.
        value_mean, value_deviation, return_mean, return_deviation: their means and standard deviations.
        correlation: Pearson's; ``None`` where one of them does not vary.
        slope: of the least-squares line from value to return. 1 is calibrated; below 1, values differ by too much.
        curve: mean value and mean return of each tenth of the steps, sorted by value.
        bias: the mean by which values exceed returns.
    """

    number: int
    value_mean: float
    value_deviation: float
    return_mean: float
    return_deviation: float
    correlation: float | None
    slope: float | None
    curve: list[tuple[float, float]]
    bias: float = field(init=False)

    def __post_init__(self) -> None:
        self.bias = self.value_mean - self.return_mean


def calibrate(value: Tensor, returns: Tensor, parts: int = 10) -> Calibration | None:
    """Compare ``value [n]`` with ``returns [n]``; return ``None`` without any."""
    if not len(value):
        return None
    value, returns = value.double(), returns.double()
    deviations = [entry.std(correction=0).item() for entry in (value, returns)]
    covariance = ((value - value.mean()) * (returns - returns.mean())).mean().item()
    tiny = 1e-9 * (1 + torch.cat([value, returns]).abs().max().item())
    varies = [deviation > tiny for deviation in deviations]
    cut = value.argsort().tensor_split(min(parts, len(value)))
    return Calibration(
        len(value),
        value.mean().item(),
        deviations[0],
        returns.mean().item(),
        deviations[1],
        covariance / math.prod(deviations) if all(varies) else None,
        covariance / deviations[0] ** 2 if varies[0] else None,
        [(value[part].mean().item(), returns[part].mean().item()) for part in cut],
    )
