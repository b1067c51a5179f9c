"""The world model's update."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch.optim import Optimizer

from torchrl_glam.compilation import COMPILED
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training.steps import autocast, checked_loss, optimizer_step

WorldModelUpdate = Callable[[TensorDictBase], TensorDictBase]


def make_world_model_update(
    loss: GLAMModelLoss,
    optimizer: Optimizer,
    max_norm: float,
    *,
    precision: torch.dtype = torch.float32,
    compile: bool = False,
) -> WorldModelUpdate:
    """Return ``update(batch [b t]) -> metrics``: one gradient step on the world model.

    BatchNorm is in training mode during the update only.

    Args:
        loss: the world model's loss.
        optimizer: over its parameters.
        max_norm: bound on their global gradient norm.
        precision: of matrix products and convolutions.
        compile: compile the loss, forward and backward.
    """
    parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    device = parameters[0].device
    run = torch.compile(loss, **COMPILED) if compile else loss

    def update(batch: TensorDictBase) -> TensorDictBase:
        loss.train()
        with autocast(device, precision):
            terms = run(batch)
        norm = optimizer_step(checked_loss(terms), parameters, optimizer, max_norm)
        loss.eval()
        return terms.detach().set("grad_norm", norm)

    loss.eval()
    return update
