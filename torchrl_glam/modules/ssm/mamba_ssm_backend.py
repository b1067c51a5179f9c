"""The ``mamba_ssm`` backend: the CUDA kernel of Mamba's authors, through the documented function of their package.

It scans from a zero state, in single precision, and has no gradient for the last state; what asks for more is refused.
``torch.compile`` cannot look into it: with ``fullgraph=True`` take the ``triton`` backend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchrl_glam.errors import UsageError


def mamba_ssm_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan`, all inputs having one floating dtype.

    Raises:
        UsageError: if there is a state to start from, or if the dtype is not float32.
    """
    if state is not None:
        raise UsageError("The scan backend 'mamba_ssm' starts from a zero state; with another use 'triton' or 'torch'.")
    if u.dtype != torch.float32:
        raise UsageError(f"The scan backend 'mamba_ssm' computes in float32, not {u.dtype}; use 'triton' or 'torch'.")
    # Imported at the first scan: the import alone sets up CUDA.
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, B, C = (tensor.mT.contiguous() for tensor in (u, delta, B, C))  # (b d t), (b n t)
    y, last_state = selective_scan_fn(u, delta, A.contiguous(), B, C, D, return_last_state=True)
    return y.mT, _WithoutGradient.apply(last_state)


class _WithoutGradient(torch.autograd.Function):
    """The same tensor, but a gradient that arrives is an error: mamba_ssm would drop it without a word."""

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
