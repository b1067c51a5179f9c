"""The selective scan against a textbook one. Letters as in :mod:`torchrl_glam.modules.ssm.scan`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torchrl_glam.modules.ssm import available_backends, selective_scan
from torchrl_glam.tools.benchmarks.timing import Timing, measure, warm_up

LENGTHS = (4, 16, 64)
TEXTBOOK = "textbook"


def textbook_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """The scan as Mamba's formula is usually written down: both [b t d n] tensors at once, then a loop, then autograd.

    Args and returns are those of :func:`~torchrl_glam.modules.ssm.selective_scan`.
    """
    decay = torch.exp(delta[..., None] * A)  # (b t d n)
    entering = (delta * u)[..., None] * B[:, :, None]  # (b t d n)
    state = u.new_zeros(u.shape[0], *A.shape)
    ys = []
    for t in range(u.shape[1]):
        state = decay[:, t] * state + entering[:, t]
        ys.append(torch.einsum("bdn,bn->bd", state, C[:, t]))
    return torch.stack(ys, dim=1), state


def scan_inputs(b: int, t: int, d: int, n: int, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """Made-up ``u, delta, A, B, C`` that want gradients."""
    generator = torch.Generator().manual_seed(0)
    u, B, C = (torch.randn(b, t, size, generator=generator) for size in (d, n, n))
    delta = torch.rand(b, t, d, generator=generator) * 0.1
    A = -torch.arange(1.0, n + 1).repeat(d, 1)
    return tuple(tensor.to(device).requires_grad_() for tensor in (u, delta, A, B, C))


def scan_backends(device: torch.device) -> tuple[str, ...]:
    """The backends worth timing on this device: ``torch``, and on CUDA whatever else is fast."""
    others = [name for name in available_backends(device) if name not in ("reference", "torch")]
    return ("torch", *(others if device.type == "cuda" else ()))


def measure_scans(b: int, d: int, n: int, device: torch.device, *, repeats: int = 10) -> dict[int, dict[str, Timing]]:
    """Forward and backward of the textbook scan and of each backend, at each length."""
    results: dict[int, dict[str, Timing]] = {}
    for t in LENGTHS:
        inputs = scan_inputs(b, t, d, n, device)
        grad = torch.ones(b, t, d, device=device)
        results[t] = {}
        for name in (TEXTBOOK, *scan_backends(device)):
            run = _forward_backward(name, inputs, grad)
            warm_up(run, device)
            results[t][name] = measure(run, device, repeats=repeats)
    return results


def _forward_backward(name: str, inputs: tuple[Tensor, ...], grad: Tensor) -> Callable[[], object]:
    def run() -> object:
        y, _ = textbook_scan(*inputs) if name == TEXTBOOK else selective_scan(*inputs, backend=name)
        return torch.autograd.grad(y, inputs, grad)

    return run
