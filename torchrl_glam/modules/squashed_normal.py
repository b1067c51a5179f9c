"""The distribution of continuous actions: a normal, squashed into bounds.

``b`` any leading shape, ``a`` width of an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
    constraints,
)
from torchrl.modules import TanhNormal

REACH = 4.0
"""Bound on the normal's mean: tanh(4) is 0.999, and float32 still distinguishes the actions around it.

From 7 on it does not, and an action's log-probability is not that of its draw."""


class ClampedTanh(TanhTransform):
    """Tanh that stays just within plus and minus 1, where its inverse would be infinite."""

    def _call(self, x: Tensor) -> Tensor:
        return self._clamp(x.tanh())

    def _inverse(self, y: Tensor) -> Tensor:
        return self._clamp(y).atanh()

    def _clamp(self, y: Tensor) -> Tensor:
        limit = 1 - torch.finfo(y.dtype).resolution
        return y.clamp(-limit, limit)


class SquashedNormal(TanhNormal):
    """TorchRL's :class:`~torchrl.modules.TanhNormal` (with ``tanh_loc``) that never waits for a GPU and has an entropy.

    TorchRL's own (0.14.1) reads the bounds and parameters at every call, and so cannot be captured in a CUDA graph.
    With bounds that are not symmetric, its ``tanh_loc`` also moves the mean by their midpoint before squashing.

    Args:
        loc: the normal's mean, itself squashed to plus and minus :data:`REACH`.
        scale: its standard deviation.
        low, high: the bounds.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules.squashed_normal import SquashedNormal
        >>> actions = SquashedNormal(torch.zeros(2), torch.ones(2), torch.tensor([0.0, -2.0]), torch.tensor([1.0, 2.0]))
        >>> actions.deterministic_sample
        tensor([0.5000, 0.0000])
    """

    def __init__(
        self,
        loc: Float[Tensor, "*b a"],
        scale: Float[Tensor, "*b a"],
        low: Float[Tensor, " a"],
        high: Float[Tensor, " a"],
    ) -> None:
        self.low, self.high = low.to(loc.device), high.to(loc.device)
        self.update(loc, scale)

    def update(self, loc: Float[Tensor, "*b a"], scale: Float[Tensor, "*b a"]) -> None:
        """Replace ``loc`` and ``scale``."""
        low, high = self.low, self.high
        self.loc, self.scale = REACH * (loc / REACH).tanh(), scale
        normal = Independent(Normal(self.loc, scale, validate_args=False), 1, validate_args=False)
        squash = ComposeTransform([ClampedTanh(), AffineTransform((high + low) / 2, (high - low) / 2)])
        TransformedDistribution.__init__(self, normal, squash, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: SquashedNormal | None = None) -> SquashedNormal:
        """Return the same distribution in the shape ``[*batch_shape a]``."""
        expanded = type(self).__new__(type(self)) if _instance is None else _instance
        TransformedDistribution.expand(self, torch.Size(batch_shape), expanded)
        expanded.low, expanded.high = self.low, self.high
        expanded.loc, expanded.scale = expanded.base_dist.base_dist.loc, expanded.base_dist.base_dist.scale
        return expanded

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Return the constraint of actions within the bounds."""
        return constraints.independent(constraints.interval(self.low, self.high), 1)

    def entropy(self) -> Float[Tensor, "*b"]:
        """Estimate the entropy (no closed form): the normal's entropy plus the change of volume at one draw."""
        draw = self.base_dist.rsample()
        squash = self.transforms[0]
        return self.base_dist.entropy() + squash.log_abs_det_jacobian(draw, squash(draw)).sum(-1)
