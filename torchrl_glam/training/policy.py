"""The agent's update: gradient steps on whatever an objective makes of imagination."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.optim import Optimizer
from torchrl.data import TensorDictReplayBuffer

from torchrl_glam.training.state import load_own_state, own_state
from torchrl_glam.training.steps import autocast, checked_loss, optimizer_step

Start = Callable[[TensorDictBase], TensorDictBase]
"""From real data [b t] to where imagination starts."""


class Objective(Protocol):
    """Imagination turned into losses, behind which the agents differ."""

    @property
    def losses(self) -> Sequence[nn.Module]:
        """With what else is trained or averaged: slow critics, norms of returns."""
        ...

    @property
    def buffer(self) -> TensorDictReplayBuffer | None:
        """Imagined transitions that are kept from one update to the next."""
        ...

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

    def state_dict(self) -> dict[str, Any]:
        """What is trained or kept besides the networks, and the optimizer's state."""
        buffer = self.objective.buffer
        return {
            "losses": [own_state(loss, self._saved_elsewhere()) for loss in self.objective.losses],
            "optimizer": self.optimizer.state_dict(),
            "buffer": None if buffer is None else _buffer_state(buffer),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned, in place."""
        for loss, state in zip(self.objective.losses, state_dict["losses"], strict=True):
            load_own_state(loss, self._saved_elsewhere(), state)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if self.objective.buffer is not None:
            _load_buffer(self.objective.buffer, state_dict["buffer"])

    def _saved_elsewhere(self) -> list[nn.Module]:
        """The networks, and the world model, which is part of TorchRL's DreamerV3ActorLoss (0.14.1)."""
        worlds = (getattr(loss, "model_based_env", None) for loss in self.objective.losses)
        return [*self.networks.values(), *(world for world in worlds if world is not None)]


def _buffer_state(buffer: TensorDictReplayBuffer) -> dict[str, Any]:
    """Only what is filled: ``TensorDictReplayBuffer.state_dict`` of torchrl 0.14.1 holds the whole storage."""
    held = buffer.storage.get(slice(0, len(buffer))).flatten_keys(".").to_dict() if len(buffer) else {}
    return {"transitions": held, "writer": buffer.writer.state_dict()}


def _load_buffer(buffer: TensorDictReplayBuffer, state: dict[str, Any]) -> None:
    buffer.empty()
    if entries := state["transitions"]:
        number = len(next(iter(entries.values())))
        held = TensorDict(entries, batch_size=[number]).unflatten_keys(".")
        buffer.storage.set(torch.arange(number), held.to(buffer.storage.device))
    buffer.writer.load_state_dict(state["writer"])


def trained_parameters(*modules: nn.Module) -> list[Tensor]:
    """The parameters of ``modules`` that take a gradient, each once."""
    found = (parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)
    return list(dict.fromkeys(found))
