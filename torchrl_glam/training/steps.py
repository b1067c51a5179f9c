"""One gradient step, whatever is trained.

Metrics stay tensors on their device: no update synchronises a GPU with the host.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer

from torchrl_glam.errors import UsageError
from torchrl_glam.objectives import total_loss

KEPT = "the run stops, its last checkpoint stays"


def checked_loss(terms: TensorDictBase) -> Tensor:
    """Sum the loss terms; on a CPU, where looking costs nothing, raise FloatingPointError if one is not finite."""
    loss = total_loss(terms)
    if loss.device.type == "cpu":
        check_finite(terms)
    return loss


def check_terms(terms: object) -> None:
    """Raise UsageError unless somebody's loss returned a TensorDict with scalars to be minimised."""
    if not isinstance(terms, TensorDictBase):
        raise UsageError(f"the loss returned a {type(terms).__name__}: a TensorDict of scalars is wanted")
    losses = {name: value for name, value in terms.items() if name.startswith("loss_")}
    if not losses:
        raise UsageError(f"the loss returned {', '.join(terms.keys())}: name what is to be minimised loss_...")
    for name, value in losses.items():
        if value.numel() != 1:
            raise UsageError(f"the loss returned {name} of shape {list(value.shape)}: reduce it to a scalar")
    if not any(value.requires_grad for value in losses.values()):
        raise UsageError(f"{', '.join(losses)} of the loss depend on no parameter: nothing would be learned")


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
        raise FloatingPointError(f"not finite: {', '.join(bad)}; {KEPT}")


def trained_parameters(*modules: nn.Module) -> list[Tensor]:
    """Return the parameters of ``modules`` that take a gradient, each once."""
    found = (parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)
    return list(dict.fromkeys(found))
