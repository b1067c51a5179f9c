"""Bounds of continuous actions, and the distribution that squashes a normal into them."""

from __future__ import annotations

import torch
from torch import distributions

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0])


def in_float64(loc, scale, low=LOW, high=HIGH):
    """Return torch's own distribution."""
    normal = distributions.Normal(4 * (loc.double() / 4).tanh(), scale.double())
    squash = [distributions.TanhTransform(), distributions.AffineTransform((low + high) / 2, (high - low) / 2)]
    return distributions.Independent(distributions.TransformedDistribution(normal, squash), 1)
