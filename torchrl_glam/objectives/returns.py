"""The lambda return of a rollout, under any critic.

``b`` batch, ``n`` horizon, ``x`` any width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules import PercentileValueNorm
from torchrl.objectives.value import TDLambdaEstimator, ValueEstimatorBase

from torchrl_glam.errors import UsageError
from torchrl_glam.objectives.functional import released_next_value

BOOTSTRAPS = ("next", "current")
PERCENTILES = ("interpolated", "order_statistic")


def check_bootstrap(bootstrap: str) -> None:
    """Raise UsageError unless ``bootstrap`` is ``next`` or ``current``."""
    if bootstrap not in BOOTSTRAPS:
        raise UsageError(f"bootstrap is {bootstrap!r}: choose {' or '.join(BOOTSTRAPS)}")


def make_lambda_estimator(gamma: float, lmbda: float, **options: Any) -> TDLambdaEstimator:
    """TorchRL's TD(lambda) without a value network, for :func:`lambda_return`; ``options`` are its other arguments."""
    # torchrl 0.14.1's vectorised TD(lambda) raises IndexError where gamma * lmbda is 0: go through time instead.
    return TDLambdaEstimator(gamma=gamma, lmbda=lmbda, value_network=None, **{"vectorized": False, **options})


def lambda_return(
    critic: Callable[[TensorDictBase], Tensor],
    rollout: TensorDictBase,
    estimator: ValueEstimatorBase,
    *,
    bootstrap: str,
    lmbda: float,
    consecutive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Lambda return and value, ``[b n 1]`` each.

    Args:
        critic: from states ``[b n]`` to their values ``[b n 1]``.
        rollout: ``[b n]``.
        estimator: what :func:`make_lambda_estimator` made.
        bootstrap: ``next`` for ``V_{t+1}``; ``current`` for the released code's ``V_t`` in its place.
        lmbda: the return's lambda.
        consecutive: each next state is the state of the following step: the critic evaluates each state once.
    """
    value, following = critic(rollout), rollout.get("next")
    last = critic(following[:, -1:] if consecutive else following)
    next_value = torch.cat([value[:, 1:], last], 1) if consecutive else last
    if bootstrap == "current":
        next_value = released_next_value(value, next_value, lmbda)
    return estimator.value_estimate(rollout, next_value=next_value), value


class OrderStatisticNorm(PercentileValueNorm):
    """TorchRL's norm by a span of percentiles, without interpolation, as in the released code.

    The quantile ``q`` of ``m`` values is their ``int(q m)``-th smallest one, counted from 1; of few values the first.
    """

    @torch.no_grad()
    def update(self, value_target: Tensor) -> None:
        """Move the percentiles towards those of ``value_target [.. 1]``."""
        self._check_trailing_shape(value_target)
        values = value_target.detach().reshape(-1, *self.shape).to(self.low.dtype)
        for bound, quantile in zip((self.low, self.high), self.quantiles, strict=True):
            rank = max(1, int(quantile * len(values)))
            bound.lerp_(values.kthvalue(rank, dim=0).values, self.rate)


def make_return_norm(percentiles: str, **options: Any) -> PercentileValueNorm:
    """Make the norm of returns, with TorchRL's ``options``.

    Args:
        percentiles: ``interpolated``, or ``order_statistic``: :class:`OrderStatisticNorm`.

    Raises:
        UsageError: if it is neither.
    """
    if percentiles not in PERCENTILES:
        raise UsageError(f"return_percentiles is {percentiles!r}: choose {' or '.join(PERCENTILES)}")
    return (OrderStatisticNorm if percentiles == "order_statistic" else PercentileValueNorm)(**options)
