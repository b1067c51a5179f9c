"""The world model's update."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch.optim import Optimizer

from torchrl_glam.machine.compilation import COMPILED
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training.state import load_optimizer, load_own_state, own_state
from torchrl_glam.training.steps import autocast, checked_loss, optimizer_step, step_metrics


class WorldModelUpdate:
    """``update(batch [b t]) -> metrics, latents``: one gradient step on the world model.

    BatchNorm is in training mode during the update only.

    Args:
        loss: the world model's loss.
        optimizer: over its parameters.
        max_norm: bound on their global gradient norm.
        precision: of matrix products and convolutions.
        compile: compile the loss, forward and backward.
    """

    def __init__(
        self,
        loss: GLAMModelLoss,
        optimizer: Optimizer,
        max_norm: float,
        *,
        precision: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        self.loss, self.optimizer, self.max_norm, self.precision = loss.eval(), optimizer, max_norm, precision
        self.parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        run = loss.forward_with_latents
        self._run = torch.compile(run, **COMPILED) if compile else run
        self._last: TensorDictBase | None = None

    def __call__(self, batch: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Take the step; return the loss's terms and metrics, and the latents ``[b t]`` that it saw."""
        self.loss.train()
        with autocast(self.parameters[0].device, self.precision):
            terms, latents = self._run(batch)
        norm = optimizer_step(checked_loss(terms), self.parameters, self.optimizer, self.max_norm)
        self.loss.eval()
        self._last = step_metrics(terms, norm, self._last)
        return self._last.copy(), latents

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, and what is trained besides the world model."""
        return {"loss": own_state(self.loss, [self.loss.world_model]), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned, in place."""
        load_own_state(self.loss, [self.loss.world_model], state_dict["loss"])
        load_optimizer(self.optimizer, state_dict["optimizer"])
