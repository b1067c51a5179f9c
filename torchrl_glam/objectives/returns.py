"""The lambda return of a rollout, under any critic.

``b`` batch, ``n`` horizon, ``x`` any width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives.value import TDLambdaEstimator, ValueEstimatorBase

from torchrl_glam.objectives.functional import released_next_value


def make_lambda_estimator(gamma: float, lmbda: float, **options: Any) -> TDLambdaEstimator:
    """TorchRL's TD(lambda) without a value network, for :func:`lambda_return`; ``options`` are its other arguments."""
    # torchrl 0.14.1's vectorised TD(lambda) raises IndexError where gamma * lmbda is 0: go through time instead.
    return TDLambdaEstimator(gamma=gamma, lmbda=lmbda, value_network=None, **{"vectorized": False, **options})


def lambda_return(
    critic: Callable[[TensorDictBase], Tensor],
    in_keys: Sequence[NestedKey],
    rollout: TensorDictBase,
    estimator: ValueEstimatorBase,
    *,
    bootstrap: str,
    lmbda: float,
) -> tuple[Tensor, Tensor]:
    """Lambda return and value, ``[b n 1]`` each.

    Args:
        critic: from states ``[b n]`` to their values ``[b n 1]``.
        in_keys: what it reads, at the root and below ``"next"``.
        rollout: ``[b n]``.
        estimator: what :func:`make_lambda_estimator` made.
        bootstrap: ``next`` for ``V_{t+1}``; ``current`` for the released code's ``V_t`` in its place.
        lmbda: the return's lambda.
    """
    value, following = critic(rollout), rollout.get("next")
    if all(_continues(rollout.get(key), following.get(key)) for key in in_keys):
        next_value = torch.cat([value[:, 1:], critic(following[:, -1:])], 1)
    else:
        next_value = critic(following)
    if bootstrap == "current":
        next_value = released_next_value(value, next_value, lmbda)
    return estimator.value_estimate(rollout, next_value=next_value), value


def _continues(state: Tensor, next_state: Tensor) -> bool:
    """Whether both are views of one memory, ``next_state [b n x]`` one step on: so imagination returns them."""
    same = (state[:, 1:], next_state[:, :-1])
    return len({(view.data_ptr(), view.shape, view.stride()) for view in same}) == 1
