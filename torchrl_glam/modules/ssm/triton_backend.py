"""The ``triton`` backend: one kernel per scan, one per backward pass, on CUDA devices.

Both are registered as PyTorch operators, opaque to ``torch.compile``, which so cannot unroll the loop over time or
compile it wrong. The kernels are imported when the first of them is launched; importing this file needs no Triton.

Under Triton's interpreter (``TRITON_INTERPRET=1`` in the environment before torch is imported) it also runs on a CPU,
far too slowly for anything but tests.
"""

# No `from __future__ import annotations`, for the reason given in torch_backend.py.
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Steps between two states that the forward pass keeps (see triton_kernels.py).
_CHUNK = 4
# Elements of the state in one program of one warp: 16 in each thread, so that nothing spills, and four neighbouring
# threads share a channel's n = 16, which balances the reductions over n with those over d.
_TILE = 512
# The backward pass adds up dA and dD over the batch in at most this many partial sums, on every device.
_MAX_PARTIAL_SUMS = 128


def triton_scan(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None,
    state: Float[Tensor, "b d n"] | None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan` for inputs of one floating dtype."""
    tensors = (u, delta, A, B, C, D, state)
    differentiate = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    y, last_state, _ = _scan(*tensors, differentiate)
    return y, last_state


def triton_step(
    u: Float[Tensor, "b d"],
    delta: Float[Tensor, "b d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b n"],
    C: Float[Tensor, "b n"],
    D: Float[Tensor, " d"] | None,
    state: Float[Tensor, "b d n"],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d n"]]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan_step` for inputs of one floating dtype.

    A step is a scan of length 1: Triton compiles the scan kernel again for that length, without the loop. One launch
    reads the state once and writes it once. A step is differentiable, as the scan is.
    """
    y, last_state = triton_scan(u[:, None], delta[:, None], A, B[:, None], C[:, None], D, state)
    return y.squeeze(1), last_state


@torch.library.custom_op("torchrl_glam::selective_scan", mutates_args=())
def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the last state, and the states that the backward pass starts from.

    These are [b (t-1)//_CHUNK d n], or [b 0 d n] without ``keep_states``.
    """
    from torchrl_glam.modules.ssm import triton_kernels

    y, last_state, kept = _allocate(u, delta, A, B, C, D, state, keep_states)
    inputs = [None if x is None else x.contiguous() for x in (u, delta, A, B, C, D, state)]
    sizes = _sizes(A)
    grid = (u.shape[0] * _num_blocks(sizes),)
    with torch.cuda.device_of(u):
        triton_kernels.scan_forward[grid](
            *inputs, y, last_state, kept if kept.numel() else None, u.shape[1], **sizes, num_warps=1
        )
    return y, last_state, kept


@_scan.register_fake
def _allocate(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, _ = u.shape
    num_kept = (length - 1) // _CHUNK if keep_states else 0
    return u.new_empty(u.shape), u.new_empty(batch, *A.shape), u.new_empty(batch, num_kept, *A.shape)


@torch.library.custom_op("torchrl_glam::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the seven inputs of the scan; the gradient of an input that is None is empty."""
    from torchrl_glam.modules.ssm import triton_kernels

    batch, length, _ = u.shape
    sizes = _sizes(A)
    num_blocks = _num_blocks(sizes)
    rows = -(-batch // _MAX_PARTIAL_SUMS)
    groups = -(-batch // rows)
    inputs = [None if x is None else x.contiguous() for x in (grad_y, grad_last, u, delta, A, B, C, D, state, kept)]
    grad_u, grad_delta, *_, grad_state = _allocate_gradients(grad_y, grad_last, u, delta, A, B, C, D, state, kept)
    sum_A, sum_D = u.new_empty(groups, *A.shape), u.new_empty(groups, 0 if D is None else A.shape[0])
    sum_B, sum_C = u.new_empty(num_blocks, *B.shape), u.new_empty(num_blocks, *C.shape)
    outputs = (grad_u, grad_delta, sum_A, sum_B, sum_C, sum_D, grad_state)
    with torch.cuda.device_of(u):
        triton_kernels.scan_backward[(groups * num_blocks,)](
            *inputs, *outputs, batch, length, rows, **sizes, num_warps=1
        )
    return grad_u, grad_delta, sum_A.sum(0), sum_B.sum(0), sum_C.sum(0), sum_D.sum(0), grad_state


@_scan_backward.register_fake
def _allocate_gradients(
    grad_y: Tensor,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    state: Tensor | None,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_state = (
        u.new_empty(0 if x is None else x.shape) for x in (u, delta, A, B, C, D, state)
    )
    return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_state


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[2])


def _differentiate(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    u = ctx.saved_tensors[0]
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    gradients = _scan_backward(grad_y, grad_last, *ctx.saved_tensors)
    needed = zip(gradients, ctx.needs_input_grad, strict=False)  # The last input is no tensor.
    return *(gradient if need else None for gradient, need in needed), None


_scan.register_autograd(_differentiate, setup_context=_save)


def _sizes(A: Tensor) -> dict[str, int]:
    """Return the constants that the kernels are compiled for."""
    width, n = A.shape
    block_n = _power_of_2(n)
    return {
        "WIDTH": width,
        "N": n,
        "CHUNK": _CHUNK,
        "BLOCK_D": min(_power_of_2(width), max(1, _TILE // block_n)),
        "BLOCK_N": block_n,
    }


def _num_blocks(sizes: dict[str, int]) -> int:
    return -(-sizes["WIDTH"] // sizes["BLOCK_D"])


def _power_of_2(size: int) -> int:
    """Return the smallest power of 2 that is at least ``size``."""
    return 1 << (size - 1).bit_length()
