"""The selective scan against a textbook one. Letters as in :mod:`torchrl_glam.modules.ssm.scan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.benchmark import Measurement

from torchrl_glam.modules.ssm import available_backends, selective_scan
from torchrl_glam.tools.benchmarks.timing import SECONDS, measure

LENGTHS = (4, 16, 64)
TEXTBOOK = "textbook"


def textbook_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the scan as Mamba's formula is usually written: both [b t d n] tensors at once, a loop, autograd.

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
    """Make random ``u, delta, A, B, C`` that want gradients."""
    generator = torch.Generator().manual_seed(0)
    u, B, C = (torch.randn(b, t, size, generator=generator) for size in (d, n, n))
    delta = torch.rand(b, t, d, generator=generator) * 0.1
    A = -torch.arange(1.0, n + 1).repeat(d, 1)
    return tuple(tensor.to(device).requires_grad_() for tensor in (u, delta, A, B, C))


def measure_scans(
    b: int, d: int, n: int, device: torch.device, *, seconds: float = SECONDS
) -> dict[str, dict[str, Measurement]]:
    """Measure forward and backward of the textbook scan and of each fast backend, at each length."""
    others = [name for name in available_backends(device) if name not in ("reference", "torch")]
    scans: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {TEXTBOOK: textbook_scan}
    for name in ("torch", *(others if device.type == "cuda" else ())):
        scans[name] = partial(selective_scan, backend=name)
    results: dict[str, dict[str, Measurement]] = {name: {} for name in scans}
    for t in LENGTHS:
        inputs, grad = scan_inputs(b, t, d, n, device), torch.ones(b, t, d, device=device)
        for name, scan in scans.items():
            run = partial(_forward_backward, scan, inputs, grad)
            results[name][f"t {t}, forward and backward"] = measure(run, seconds=seconds)
    return results


def _forward_backward(
    scan: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(scan(*inputs)[0], inputs, grad)
