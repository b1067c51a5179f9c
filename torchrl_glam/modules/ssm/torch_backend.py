"""The ``torch`` backend: one time step at a time, with a backward pass written by hand.

Letters as in :mod:`~torchrl_glam.modules.ssm.scan`. Inside, a state lies as [b n d]: broadcasting ``delta`` [b d] then
runs along the long, contiguous d, about 1.5 times as fast on a CPU as along n. No tensor of size [b t d n] exists; the
exponentials are computed again in the backward pass, so that only the inputs and the states are kept.

With ``v_t = delta_t u_t``, ``a_t = exp(delta_t A)``, and ``g_t`` the gradient of the loss with respect to ``h_t``::

    g_t = C_t dy_t + a_{t+1} g_{t+1}
    dB_t = g_t . v_t        dv_t = B_t . g_t        dC_t = h_t . dy_t
    ddelta_t = sum_n(A q_t)  dA = sum_bt(delta_t q_t)  where  q_t = a_t g_t h_{t-1}
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def torch_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute :func:`~torchrl_glam.modules.ssm.scan.selective_scan`, all inputs having one floating dtype."""
    if state is None:
        state = u.new_zeros(u.shape[0], *A.shape)
    inputs = (delta, delta * u, A, B, C, state)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        y, last_state = _TorchScan.apply(*inputs)
    else:
        y, last_state, _ = _run(*inputs, keep_states=False)
    return (y if D is None else torch.addcmul(y, D, u)), last_state


def _run(
    delta: Tensor, v: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, *, keep_states: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run the recurrence; the list holds ``h_0 .. h_t`` as [b n d], or nothing."""
    A, h = A.mT.contiguous(), state.mT.contiguous()
    ys, states = [], [h]
    for t in range(delta.shape[1]):
        # The buffer of the exponential becomes the new state.
        h = (delta[:, t, None, :] * A).exp_().mul_(h).addcmul_(B[:, t, :, None], v[:, t, None, :])
        ys.append(torch.bmm(C[:, t, None, :], h))
        if keep_states:
            states.append(h)
    last_state = h.mT.clone(memory_format=torch.contiguous_format)
    return torch.cat(ys, dim=1), last_state, states if keep_states else []


class _TorchScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        y, last_state, states = _run(*inputs, keep_states=True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:-1], *states)
        return y, last_state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        delta, v, A, B, C, *states = ctx.saved_tensors
        need_delta, need_v, need_A, need_B, need_C, need_state = ctx.needs_input_grad
        if grad_y is None:
            grad_y = torch.zeros_like(delta)
        A = A.mT.contiguous()
        g = torch.zeros_like(states[0]) if grad_last is None else _copy_transposed(grad_last)
        buffer = torch.empty_like(g)  # Fresh memory at every step would cost more than the arithmetic.
        grad_A = torch.zeros_like(g) if need_A else None
        ddelta, dv, dB, dC = [], [], [], []
        for t in reversed(range(delta.shape[1])):
            dy = grad_y[:, t]
            if need_C:
                dC.append(_matvec(states[t + 1], dy))
            g.addcmul_(C[:, t, :, None], dy[:, None, :])
            if need_B:
                dB.append(_matvec(g, v[:, t]))
            if need_v:
                dv.append(_matvec(g.mT, B[:, t]))
            g.mul_(torch.mul(delta[:, t, None, :], A, out=buffer).exp_())
            if need_delta or need_A:
                q = torch.mul(g, states[t], out=buffer)
                if grad_A is not None:
                    grad_A.addcmul_(delta[:, t, None, :], q)
                if need_delta:
                    ddelta.append(q.mul_(A).sum(dim=1))
        grad_state = _copy_transposed(g) if need_state else None
        grad_A = None if grad_A is None else grad_A.sum(dim=0).mT
        return _over_time(ddelta), _over_time(dv), grad_A, _over_time(dB), _over_time(dC), grad_state


def _matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """[b i j], [b j] -> [b i]."""
    return torch.bmm(matrix, vector[..., None]).squeeze(-1)


def _copy_transposed(state: Tensor) -> Tensor:
    return state.mT.clone(memory_format=torch.contiguous_format)


def _over_time(steps: list[Tensor]) -> Tensor | None:
    """Stack gradients gathered from the last step to the first; none were asked for if there are none."""
    return torch.stack(steps[::-1], dim=1) if steps else None
