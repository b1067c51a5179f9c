"""Inputs and outputs of a scan that several files of tests share."""

from __future__ import annotations

import torch


def make_inputs(batch, length, width, n, dtype=torch.float64, device="cpu", seed=0):
    """Random inputs as a Mamba block has them: slow channels and fast ones."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = -torch.arange(1, n + 1, dtype=torch.float64).expand(width, n) * (0.1 * normal(width, n)).exp()
    sequences = normal(batch, length, width), torch.nn.functional.softplus(normal(batch, length, width) - 2)
    read = normal(batch, length, n), normal(batch, length, n)
    tensors = (*sequences, A, *read, normal(width), normal(batch, width, n))
    return [tensor.to(device, dtype).requires_grad_() for tensor in tensors]


def weigh(tensor):
    """A sum with weights that differ, the same in every precision."""
    weights = torch.arange(tensor.numel(), device=tensor.device, dtype=torch.float64).sin()
    return (tensor * weights.reshape(tensor.shape).to(tensor.dtype)).sum()


def values_and_gradients(scan, inputs):
    """What a scan returns, and the gradients of all inputs that are not None."""
    y, last = scan(*inputs)
    return y, last, *torch.autograd.grad(weigh(y) + weigh(last), [x for x in inputs if x is not None])
