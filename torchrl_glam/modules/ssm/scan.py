"""The selective scan of Mamba (arXiv 2312.00752, Eq. 2 and Algorithm 2), as pure functions on tensors.

Letters, as in the paper:

    b batch, t time, d inner width, n size of the state

    u      [b t d]  input
    delta  [b t d]  step size, positive (after the softplus)
    A      [d n]    decay, negative
    B, C   [b t n]  how the input enters the state, and how the state is read out
    D      [d]      skip connection
    state  [b d n]  h, carried over time

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t
    y_t = C_t . h_t + D u_t

A is discretised by the zero-order hold and B by Euler's rule, as in Mamba's published model. (Eq. 4 uses the hold for
both.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from torchrl_glam.modules.ssm.backends import resolve_backend
from torchrl_glam.modules.ssm.cpp_backend import cpp_scan
from torchrl_glam.modules.ssm.mamba_ssm_backend import mamba_ssm_scan
from torchrl_glam.modules.ssm.shapes import check_shapes
from torchrl_glam.modules.ssm.torch_backend import torch_scan, torch_scan_last
from torchrl_glam.modules.ssm.triton_backend import triton_scan, triton_step


def selective_scan_reference(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Scan a sequence step by step, as defined: slow, differentiable by autograd, the oracle of every backend.

    Args, returns and errors are those of :func:`selective_scan`.
    """
    check_shapes("b t d", u, delta, A, B, C, D, state)
    h = u.new_zeros(u.shape[0], *A.shape) if state is None else state
    ys = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * A)
        h = decay * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        ys.append((h @ C[:, t, :, None]).squeeze(-1))
    y = torch.stack(ys, dim=1)
    return (y if D is None else y + D * u), h


_ScanFunction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]
_SCANS: dict[str, _ScanFunction] = {
    "reference": selective_scan_reference,
    "torch": torch_scan,
    "cpp": cpp_scan,
    "triton": triton_scan,
    "mamba_ssm": mamba_ssm_scan,
}


def selective_scan(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
    *,
    backend: str = "auto",
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Scan a sequence through the selective state space model (arXiv 2312.00752, Algorithm 2).

    The computation runs in the dtype of ``u``, but at least in float32, also under autocast.

    Args:
        u: input, of at least one step.
        delta: positive step sizes.
        A: negative decay rates.
        B: input matrices.
        C: output matrices.
        D: weights of the skip connection; no skip connection by default.
        state: the state before the first step; zeros by default.
        backend: ``"auto"`` or one of :func:`~torchrl_glam.modules.ssm.available_backends`.

    Returns:
        y in the dtype of ``u``, and the state after the last step.

    Raises:
        ValueError: if a shape does not fit.
        UsageError: if the backend is unknown, not available, or cannot do this (``"mamba_ssm"`` takes no state).

    Examples:
        >>> u, delta = torch.randn(2, 5, 3), torch.rand(2, 5, 3)
        >>> A, B, C = -torch.rand(3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
        >>> y, state = selective_scan(u, delta, A, B, C)
        >>> y.shape, state.shape
        (torch.Size([2, 5, 3]), torch.Size([2, 3, 4]))
    """
    scan = _SCANS[resolve_backend(backend, u.device)]
    check_shapes("b t d", u, delta, A, B, C, D, state)
    dtype = scan_dtype(u)
    with torch.autocast(u.device.type, enabled=False):
        tensors = (None if tensor is None else tensor.to(dtype) for tensor in (D, state))
        y, last_state = scan(u.to(dtype), delta.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype), *tensors)
    return y.to(u.dtype), last_state


def selective_scan_last(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    *,
    backend: str = "auto",
) -> Float[Tensor, "b d"]:
    """Return only the last output of :func:`selective_scan` from a zero state, ``y[:, -1]``.

    Without gradients, the ``torch`` backend computes nothing else.

    Args and errors are those of :func:`selective_scan`.
    """
    inputs = (u, delta, A, B, C)
    differentiate = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    if differentiate or resolve_backend(backend, u.device) != "torch":
        return selective_scan(*inputs, D, backend=backend)[0][:, -1]
    check_shapes("b t d", *inputs, D, None)
    dtype = scan_dtype(u)
    with torch.autocast(u.device.type, enabled=False):
        y = torch_scan_last(*(tensor.to(dtype) for tensor in inputs))
        y = y if D is None else torch.addcmul(y, D.to(dtype), u[:, -1].to(dtype))
    return y.to(u.dtype)


def selective_scan_step(
    u: Float[Tensor, "b d"],
    delta: Float[Tensor, "b d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n"],
    C: Float[Tensor, "b n"],
    D: Float[Tensor, " d"] | None,
    state: Float[Tensor, "b d n"],
    *,
    backend: str = "auto",
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d n"]]:
    """Run one step of :func:`selective_scan`; ``state`` is not written to.

    Args:
        u: input.
        delta: positive step sizes.
        A: negative decay rates.
        B: input matrix.
        C: output matrix.
        D: weights of the skip connection, or None.
        state: the state before the step.
        backend: as for :func:`selective_scan`; ``"triton"`` runs its scan kernel, compiled for one step; the others
            share one implementation.

    Returns:
        y in the dtype of ``u``, and the state after the step.

    Raises:
        ValueError: if a shape does not fit.
        UsageError: if the backend is unknown or not available.
    """
    step = triton_step if resolve_backend(backend, u.device) == "triton" else _step
    check_shapes("b d", u, delta, A, B, C, D, state)
    dtype = scan_dtype(u)
    with torch.autocast(u.device.type, enabled=False):
        D = None if D is None else D.to(dtype)
        y, state = step(u.to(dtype), delta.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype), D, state.to(dtype))
    return y.to(u.dtype), state


def _step(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute :func:`selective_scan_step`, all inputs having one floating dtype."""
    decay = (delta[:, :, None] * A).exp_()
    state = (decay * state).addcmul_((delta * u)[:, :, None], B[:, None, :])
    # A matrix product, not (state * C).sum(-1): torch 2.13's CPU compiler gets the sum wrong, without a warning. A row
    # times a matrix: MKL takes 10 times as long for a matrix times a column.
    y = torch.bmm(C[:, None, :], state.mT).squeeze(1)
    return (y if D is None else torch.addcmul(y, D, u)), state


def scan_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which the scan of this input computes: its own, but at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)
