"""The ``torch`` backend: one time step at a time, with a backward pass written by hand.

Letters as in :mod:`~torchrl_glam.modules.ssm.scan`. Inside, a state is laid out as [b n d]: broadcasting ``delta``
[b d] then runs along the long, contiguous d, about 1.5 times as fast on a CPU as along n. The only tensor of size
[b t d n] holds the states that the backward pass needs; exponentials are computed again there. Many short windows run
in parts of the batch whose state stays in the cache.

With ``v_t = delta_t u_t``, ``a_t = exp(delta_t A)``, and ``g_t`` the gradient of the loss with respect to ``h_t``::

    g_t = C_t dy_t + a_{t+1} g_{t+1}
    dB_t = g_t . v_t        dv_t = B_t . g_t        dC_t = h_t . dy_t
    ddelta_t = sum_n(A q_t)  dA = sum_bt(delta_t q_t)  where  q_t = a_t g_t h_{t-1}

Both passes are custom operators, which a compiler calls without tracing them. For such a loop, unrolled with
``(h * C).sum(-1)``, torch 2.13's CPU compiler silently returns wrong values, and takes minutes for 64 steps.
"""

# No `from __future__ import annotations`: torch reads the types of custom operators, and cannot resolve strings once a
# type checker has wrapped the functions (pytest --jaxtyping-packages).
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_PART = 2**18  # elements of a state that are worked on at once: 1 MB of floats


def torch_scan(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None,
    state: Float[Tensor, "b d n"] | None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan` for inputs of one floating dtype."""
    inputs = (delta, delta * u, A, B, C, state)
    tracked = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)
    y, last_state, _ = _forward(*inputs, keep_states=tracked)
    return (y if D is None else torch.addcmul(y, D, u)), last_state


def torch_scan_last(
    u: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
) -> Float[Tensor, "b d"]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan_last` without D and without gradients.

    The sum over n runs along a middle dimension: torch 2.13's CPU compiler gets this form right (tests) and fuses it
    into one pass, which ``bmm`` would break up.
    """
    A, v = A.mT, delta * u
    h = B[:, 0, :, None] * v[:, 0, None, :]
    for t in range(1, u.shape[1]):
        h = (delta[:, t, None, :] * A).exp_().mul_(h).addcmul_(B[:, t, :, None], v[:, t, None, :])
    return (C[:, -1, :, None] * h).sum(dim=1)


@torch.library.custom_op("torchrl_glam::torch_scan", mutates_args=())
def _forward(
    delta: Tensor, v: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None, keep_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y [b t d], the last state [b d n] and, with ``keep_states``, ``h_1 .. h_t`` as [t b n d]."""
    y, last_state, states = _allocate(delta, v, A, B, C, state, keep_states)
    batch, time, _ = delta.shape
    A = A.mT.contiguous()
    for part in _parts(batch, A.numel()):
        h = None if state is None else state[part].mT.contiguous()
        for t in range(time):
            if h is None:  # the first step from a zero state
                h = torch.mul(B[part, t, :, None], v[part, t, None, :], out=states[t, part] if keep_states else None)
            else:
                decay = torch.mul(delta[part, t, None, :], A, out=states[t, part] if keep_states else None).exp_()
                h = decay.mul_(h).addcmul_(B[part, t, :, None], v[part, t, None, :])
            y[part, t] = torch.bmm(C[part, t, None, :], h).squeeze(1)
        assert h is not None  # t >= 1
        last_state[part] = h.mT
    return y, last_state, states


@_forward.register_fake
def _allocate(
    delta: Tensor, v: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None, keep_states: bool
) -> tuple[Tensor, Tensor, Tensor]:
    batch, time, _ = delta.shape
    states = delta.new_empty(time, batch, *A.mT.shape) if keep_states else delta.new_empty(0)
    return _fresh(delta), delta.new_empty(batch, *A.shape), states


@torch.library.custom_op("torchrl_glam::torch_scan_backward", mutates_args=())
def _backward(
    grad_y: Tensor,
    grad_last: Tensor | None,
    delta: Tensor,
    v: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of delta, v, A, B, C and the first state (empty if there was none)."""
    ddelta, dv, dA, dB, dC, dstate = _allocate_gradients(grad_y, grad_last, delta, v, A, B, C, state, states)
    A = A.mT.contiguous()
    dA.zero_()
    for part in _parts(delta.shape[0], A.numel()):
        g = torch.zeros_like(states[0, part])
        if grad_last is not None:
            g.copy_(grad_last[part].mT)
        buffer, grad_A = torch.empty_like(g), torch.zeros_like(g)
        for t in reversed(range(delta.shape[1])):
            dy, step = grad_y[part, t, None, :], delta[part, t, None, :]
            # A row times a matrix: MKL takes 10 times as long for a matrix times a column.
            dC[part, t] = torch.bmm(dy, states[t, part].mT).squeeze(1)
            g.addcmul_(C[part, t, :, None], dy)
            dB[part, t] = torch.bmm(v[part, t, None, :], g.mT).squeeze(1)
            dv[part, t] = torch.bmm(B[part, t, None, :], g).squeeze(1)
            if t == 0 and state is None:
                ddelta[part, t] = 0.0
                continue
            before = state[part].mT if t == 0 and state is not None else states[t - 1, part]
            g.mul_(torch.mul(step, A, out=buffer).exp_())
            q = torch.mul(g, before, out=buffer)
            grad_A.addcmul_(step, q)
            ddelta[part, t] = q.mul_(A).sum(dim=1)
        dA += grad_A.sum(dim=0).mT
        if state is not None:
            dstate[part] = g.mT
    return ddelta, dv, dA, dB, dC, dstate


@_backward.register_fake
def _allocate_gradients(
    grad_y: Tensor,
    grad_last: Tensor | None,
    delta: Tensor,
    v: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    ddelta, dv, dA, dB, dC = (_fresh(x) for x in (delta, v, A, B, C))
    return ddelta, dv, dA, dB, dC, delta.new_empty(0) if state is None else _fresh(state)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # the states have none, and zeros for them would be as large
    ctx.save_for_backward(*inputs[:6], output[2])


def _differentiate(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    delta = ctx.saved_tensors[0]
    grad_y = torch.zeros_like(delta) if grad_y is None else grad_y
    *gradients, grad_state = _backward(grad_y, grad_last, *ctx.saved_tensors)
    return (*gradients, grad_state if ctx.needs_input_grad[5] else None, None)


torch.library.register_autograd("torchrl_glam::torch_scan", _differentiate, setup_context=_setup_context)


def _fresh(tensor: Tensor) -> Tensor:
    """Return contiguous memory of this shape: a compiler relies on the strides that the fakes promise."""
    return tensor.new_empty(tensor.shape)


def _parts(batch: int, size: int) -> list[slice]:
    """Return slices of the batch whose states, of ``size`` elements each, add up to about ``_PART``."""
    rows = max(1, _PART // size)
    return [slice(start, start + rows) for start in range(0, batch, rows)]
