"""The initial step size of a Mamba block (arXiv 2312.00752, Sec. 3.6)."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def init_dt_proj(
    dt_proj: nn.Linear, dt_min: float, dt_max: float, dt_init: str, dt_scale: float, dt_init_floor: float
) -> None:
    """Draw ``softplus(bias)`` log-uniformly from the range of step sizes, and a weight that is small beside it.

    The paper writes "uniform". The logarithm, which spreads the channels evenly over time scales, is that of S4.

    Args:
        dt_proj: projection from dt_rank to d_inner, changed in place.
        dt_min, dt_max: range of the step sizes.
        dt_init: the weight is ``"random"``, uniform between plus and minus its bound, or ``"constant"``, the bound.
        dt_scale: the bound is dt_rank ** -0.5 * dt_scale.
        dt_init_floor: no step size is less than this.

    Raises:
        ValueError: if ``dt_init`` is unknown.
    """
    if dt_init not in ("random", "constant"):
        raise ValueError(f"dt_init is {dt_init!r}; wanted 'random' or 'constant'.")
    bound = dt_proj.in_features**-0.5 * dt_scale
    if dt_init == "constant":
        nn.init.constant_(dt_proj.weight, bound)
    else:
        nn.init.uniform_(dt_proj.weight, -bound, bound)
    log_dt = torch.empty_like(dt_proj.bias).uniform_(math.log(dt_min), math.log(dt_max))
    dt = log_dt.exp().clamp(min=dt_init_floor)
    dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
