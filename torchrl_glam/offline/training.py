"""One gradient step on windows of a dataset, by any of TorchRL's losses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tensordict import TensorDictBase
from torch import nn
from torch.nn import Parameter
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchrl.objectives import LossModule

from torchrl_glam.training import checked_loss, optimizer_step, step_metrics
from torchrl_glam.training.state import load_optimizer, load_own_state, own_state

NOT_DECAYED = (nn.Embedding, nn.LayerNorm)


class DecisionUpdate:
    """``update(windows [b t]) -> metrics``: one step of AdamW under a warm-up and a cosine.

    Args:
        loss: ``DTLoss``, ``OnlineDTLoss`` or ``BCLoss`` over ``actor``.
        actor: the network that the run saves; the loss may have parameters of its own.
        lr: the highest learning rate.
        weight_decay: of matrices, see :func:`decay_groups`.
        warmup_updates: over which the rate rises from 0.
        total_updates: after which it is 0 again.
        max_norm: bound on the global gradient norm.
        beta2: AdamW's.
    """

    def __init__(
        self,
        loss: LossModule,
        actor: nn.Module,
        *,
        lr: float,
        weight_decay: float,
        warmup_updates: int,
        total_updates: int,
        max_norm: float,
        beta2: float = 0.999,
    ) -> None:
        self.loss, self.actor, self.max_norm = loss, actor.eval(), max_norm
        own = [parameter for name, parameter in loss.named_parameters() if not name.startswith("actor_network")]
        self.parameters = [*actor.parameters(), *own]
        groups = decay_groups(actor, weight_decay)
        if own:
            groups.append({"params": own, "weight_decay": 0.0})
        self.optimizer = AdamW(groups, lr=lr, betas=(0.9, beta2), fused=True)
        self._last: TensorDictBase | None = None
        self.schedule = LambdaLR(self.optimizer, lambda update: rate(update, warmup_updates, total_updates))

    def __call__(self, windows: TensorDictBase) -> TensorDictBase:
        """Take the step; return the loss's terms and metrics."""
        self.actor.train()  # torchrl's losses (0.14.1) do not set the mode of their networks
        terms = self.loss(windows)
        if (loss := terms.pop("loss", None)) is not None:  # DTLoss's; other losses name their terms
            terms.set("loss_action", loss)
        norm = optimizer_step(checked_loss(terms), self.parameters, self.optimizer, self.max_norm)
        self._last = step_metrics(terms, norm, self._last)
        metrics = self._last.copy().set("learning_rate", self.schedule.get_last_lr()[0])
        self.schedule.step()
        self.actor.eval()
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the loss's own parameters, and the states of optimizer and schedule."""
        return {
            "loss": own_state(self.loss, [self.actor]),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the result of :meth:`state_dict`, in place."""
        load_own_state(self.loss, [self.actor], state_dict["loss"])
        load_optimizer(self.optimizer, state_dict["optimizer"])
        self.schedule.load_state_dict(state_dict["schedule"])


def rate(update: int, warmup_updates: int, total_updates: int) -> float:
    """Return the share of the highest learning rate at an update, counted from 0: a line up, half a cosine down.

    Examples:
        >>> from torchrl_glam.offline.training import rate
        >>> [round(rate(update, 2, 6), 3) for update in range(7)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if update < warmup_updates:
        return (update + 1) / warmup_updates
    share = (update - warmup_updates) / max(1, total_updates - warmup_updates)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters: matrices decay; vectors, norms, embeddings, Mamba's A do not (arXiv 2312.00752, App. E)."""
    exempt = {
        parameter
        for child in module.modules()
        for name, parameter in child.named_parameters(recurse=False)
        if isinstance(child, NOT_DECAYED) or parameter.ndim < 2 or name in ("A_log", "positions")
    }
    parameters: Iterable[Parameter] = list(dict.fromkeys(module.parameters()))
    return [
        {"params": [entry for entry in parameters if entry not in exempt], "weight_decay": weight_decay},
        {"params": [entry for entry in parameters if entry in exempt], "weight_decay": 0.0},
    ]
