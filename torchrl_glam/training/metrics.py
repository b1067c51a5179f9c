"""Metrics of a policy that every objective reports."""

from __future__ import annotations

from tensordict import TensorDictBase
from torch import Tensor


def policy_entropy(rollout: TensorDictBase) -> dict[str, Tensor]:
    """Estimate the policy's ``entropy`` on imagined steps from the actions that it took: nothing else is drawn.

    Empty if the actor does not write ``action_log_prob``.
    """
    log_prob = rollout.get("action_log_prob", None)
    return {} if log_prob is None else {"entropy": -log_prob.mean()}


def add_missing(terms: TensorDictBase, metrics: dict[str, Tensor]) -> TensorDictBase:
    """Add those ``metrics`` to a loss's ``terms`` that it does not report itself."""
    reported = set(terms.keys())
    return terms.update({name: value for name, value in metrics.items() if name not in reported})
