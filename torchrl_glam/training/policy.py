"""The agent's update: gradient steps on whatever an objective makes of imagination."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer

from torchrl_glam.training.steps import autocast, checked_loss, optimizer_step

Start = Callable[[TensorDictBase], TensorDictBase]
"""From real data [b t] to where imagination starts."""


class Objective(Protocol):
    """Imagination turned into losses, behind which the agents differ."""

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """Imagine ``horizon`` steps from real ``data [b t]`` and yield scalars for each gradient step in turn.

        The entries whose name begins with ``loss_`` are summed, the others are metrics. What follows a ``yield`` runs
        after the step has been taken.
        """
        ...


class PolicyUpdate:
    """``update(data [b t], horizon) -> metrics``: imagine from real data, learn from it.

    Args:
        objective: what to learn.
        networks: what it trains, by name.
        optimizer: over their parameters.
        max_norm: bound on their global gradient norm.
        precision: of matrix products and convolutions.
    """

    def __init__(
        self,
        objective: Objective,
        networks: dict[str, nn.Module],
        optimizer: Optimizer,
        max_norm: float,
        *,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.objective, self.networks, self.optimizer = objective, networks, optimizer
        self.max_norm, self.precision = max_norm, precision
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def __call__(self, data: TensorDictBase, horizon: int) -> TensorDictBase:
        """Take the objective's gradient steps; return its metrics, means over the steps."""
        steps = self.objective.terms(data, horizon)
        done: list[TensorDictBase] = []
        while True:
            with autocast(self.parameters[0].device, self.precision):  # not round a backward pass
                terms = next(steps, None)
            if terms is None:
                return done[0] if len(done) == 1 else torch.stack(done).mean(0)
            norm = optimizer_step(checked_loss(terms), self.parameters, self.optimizer, self.max_norm)
            done.append(terms.detach().set("grad_norm", norm))


def trained_parameters(*modules: nn.Module) -> list[Tensor]:
    """The parameters of ``modules`` that take a gradient, each once."""
    found = (parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)
    return list(dict.fromkeys(found))
