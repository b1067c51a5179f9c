"""One gradient step, whatever is trained.

Metrics stay tensors on their device: no step synchronises a GPU with the host (but for TorchRL 0.14.1's own PPO losses,
and replay writes under discrete SAC). So a GPU decides by itself to skip a
step that is not finite, and the next log or checkpoint, which reads the metrics, ends the run.
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
    """Backward, clip the global gradient norm to ``max_norm``, step; return the norm before clipping (scalar).

    On a GPU a step that is not finite, and all after it, are skipped, if the optimizer is a fused one; the norm is then
    NaN.

    Raises:
        FloatingPointError: on a CPU, if the norm is not finite; the parameters are then as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    if norm.device.type != "cpu":
        norm = skip_if_not_finite(loss.detach() + norm, norm, optimizer)
    elif not norm.isfinite():
        raise FloatingPointError(f"not finite: grad_norm; {KEPT}")
    optimizer.step()
    return norm


def skip_if_not_finite(probe: Tensor, norm: Tensor, optimizer: Optimizer) -> Tensor:
    """Make ``optimizer`` skip its steps from the first ``probe`` on that is not finite, without waiting for the device.

    A step with weights that are NaN would end in a device-side assertion, after which nothing on the GPU can be saved.

    Returns:
        The norm; NaN if the step is skipped.
    """
    bad = probe.isfinite().logical_not()
    if getattr(optimizer, "_step_supports_amp_scaling", False):  # torch's fused ones, which read it on the device
        before = getattr(optimizer, "found_inf", None)
        bad = bad if before is None else bad | before.bool()
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    return norm.masked_fill(bad, torch.nan)


def step_metrics(terms: TensorDictBase, norm: Tensor, last: TensorDictBase | None) -> TensorDictBase:
    """Return the terms of a loss and the gradient norm as metrics, detached.

    On a GPU they stay those of the first step that was not finite, for the next log to name its terms.

    Args:
        terms: of this step.
        norm: from :func:`optimizer_step`.
        last: what this function returned for the step before.
    """
    metrics = terms.detach().set("grad_norm", norm)
    return metrics if last is None or norm.device.type == "cpu" else keep_first_bad(metrics, last)


def keep_first_bad(metrics: TensorDictBase, last: TensorDictBase) -> TensorDictBase:
    """Replace metrics by the last ones if their norm is not finite, without waiting for the device."""
    good = last["grad_norm"].isfinite()
    return metrics.update({key: torch.where(good, value, last[key]) for key, value in metrics.items() if key in last})


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
