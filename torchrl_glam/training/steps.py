"""One gradient step, whatever is trained.

Metrics stay tensors on their device: no update synchronises a GPU with the host.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.optim import Optimizer

from torchrl_glam.errors import UsageError
from torchrl_glam.objectives import total_loss


def checked_loss(terms: TensorDictBase) -> Tensor:
    """Sum the loss terms; on a CPU, where looking costs nothing, raise FloatingPointError if one is not finite.

    Raises:
        UsageError: if there is no term.
    """
    names = list(terms.keys())
    if not any(name.startswith("loss_") for name in names):
        raise UsageError(f"the loss returned {', '.join(names) or 'nothing'}: name what is to be minimised loss_...")
    loss = total_loss(terms)
    if loss.device.type == "cpu":
        check_finite(terms)
    return loss


def optimizer_step(loss: Tensor, parameters: Iterable[Tensor], optimizer: Optimizer, max_norm: float) -> Tensor:
    """Backward, clip the global gradient norm to ``max_norm``, step; return the norm before clipping (scalar)."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()
    return norm


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Autocast to ``precision``; float32 means none."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def check_finite(metrics: TensorDictBase) -> None:
    """Raise FloatingPointError with the names of the entries that are not finite."""
    bad = [key for key, value in metrics.items() if not torch.isfinite(value).all()]
    if bad:
        raise FloatingPointError(f"not finite: {', '.join(bad)}; the run stops, the weights written last stay")
