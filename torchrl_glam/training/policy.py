"""The agent's update: gradient steps on whatever an objective makes of imagination."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torch.optim import Optimizer
from torchrl.data import TensorDictReplayBuffer

from torchrl_glam.errors import UsageError
from torchrl_glam.training.objective import Objective
from torchrl_glam.training.state import load_optimizer, load_own_state, own_state
from torchrl_glam.training.steps import autocast, check_terms, checked_loss, optimizer_step, step_metrics


class PolicyUpdate:
    """``update(data [b t], horizon) -> metrics``: imagine from real data, learn from it.

    Args:
        objective: what to learn.
        optimizer: over the parameters of its networks.
        max_norm: bound on their global gradient norm.
        precision: of matrix products and convolutions.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        max_norm: float,
        *,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.objective, self.optimizer = objective, optimizer
        self.max_norm, self.precision = max_norm, precision
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._last: TensorDictBase | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Networks that are trained, by name."""
        return self.objective.networks

    def __call__(self, data: TensorDictBase, horizon: int) -> TensorDictBase:
        """Take the objective's gradient steps; return its metrics, means over the steps."""
        steps = self.objective.terms(data, horizon)
        done: list[TensorDictBase] = []
        while True:
            with autocast(self.parameters[0].device, self.precision):  # not round a backward pass
                terms = next(steps, None)
            if terms is None and not done:
                raise UsageError(f"objective={self.objective.name} yields no terms: yield those of each gradient step")
            if terms is None:
                return done[0] if len(done) == 1 else torch.stack(done).mean(0)
            check_terms(terms)
            norm = optimizer_step(checked_loss(terms), self.parameters, self.optimizer, self.max_norm)
            self._last = step_metrics(terms, norm, self._last)
            done.append(self._last.copy())

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, and what is trained or kept besides the networks."""
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
        load_optimizer(self.optimizer, state_dict["optimizer"])
        if self.objective.buffer is not None:
            _load_buffer(self.objective.buffer, state_dict["buffer"])

    def _saved_elsewhere(self) -> list[nn.Module]:
        """Return the networks, and the world model, which is part of TorchRL's DreamerV3ActorLoss (0.14.1)."""
        worlds = (getattr(loss, "model_based_env", None) for loss in self.objective.losses)
        return [*self.networks.values(), *(world for world in worlds if world is not None)]


def _buffer_state(buffer: TensorDictReplayBuffer) -> dict[str, Any]:
    """Return only the filled part: ``TensorDictReplayBuffer.state_dict`` of torchrl 0.14.1 holds the whole storage."""
    held = buffer.storage.get(slice(0, len(buffer))).flatten_keys(".").to_dict() if len(buffer) else {}
    return {"transitions": held, "writer": buffer.writer.state_dict()}


def _load_buffer(buffer: TensorDictReplayBuffer, state: dict[str, Any]) -> None:
    buffer.empty()
    if entries := state["transitions"]:
        number = len(next(iter(entries.values())))
        held = TensorDict(entries, batch_size=[number]).unflatten_keys(".")
        buffer.storage.set(torch.arange(number), held.to(buffer.storage.device))
    buffer.writer.load_state_dict(state["writer"])
