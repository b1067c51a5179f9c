"""The ``mamba_ssm`` backend: the CUDA kernel of Mamba's authors, through the documented function of their package.

It scans from a zero state, in single precision, and has no gradient for the last state; anything else raises an error.
``torch.compile`` cannot trace it: with ``fullgraph=True`` use the ``triton`` backend.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchrl_glam.errors import UsageError


def mamba_ssm_scan(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None,
    state: Float[Tensor, "b d n"] | None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan` for inputs of one floating dtype.

    Raises:
        UsageError: if a state is given, or if the dtype is not float32.
    """
    if state is not None:
        raise UsageError("The scan backend 'mamba_ssm' starts from a zero state; with another use 'triton' or 'torch'.")
    if u.dtype != torch.float32:
        raise UsageError(f"The scan backend 'mamba_ssm' computes in float32, not {u.dtype}; use 'triton' or 'torch'.")
    # Imported at the first scan: the import itself sets up CUDA.
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, B, C = (tensor.mT.contiguous() for tensor in (u, delta, B, C))  # (b d t), (b n t)
    y, last_state = selective_scan_fn(u, delta, A.contiguous(), B, C, D, return_last_state=True)
    return y.mT, _WithoutGradient.apply(last_state)


class _WithoutGradient(torch.autograd.Function):
    """Identity whose backward pass raises an error: mamba_ssm would silently drop the gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> None:
        if gradient is not None:
            raise UsageError(
                "The scan backend 'mamba_ssm' has no gradient for the last state; detach it, or use 'triton' or 'torch'"
            )
