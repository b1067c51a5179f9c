"""The common part of all agents: imagination turned into losses."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tensordict import TensorDictBase
from torch import nn
from torchrl.data import TensorDictReplayBuffer
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import LossModule, SoftUpdate, ValueEstimators

from torchrl_glam.envs.imagined import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.training.agent import AgentConfig
from torchrl_glam.training.imports import import_class, make_module

Start = Callable[[TensorDictBase], TensorDictBase]
"""From real data ``[b t]`` to where imagination starts."""


class Objective(abc.ABC):
    """A way to learn from imagination. It owns its critic, and says what it trains and what it shows.

    Attributes:
        shown: metrics for the progress bar, and their names there.
        networks: what is trained, by the names under which it is saved.
        critic: the critic; None where the loss keeps critics of its own.
        losses: TorchRL losses, with what else is trained or averaged: slow critics, norms of returns.
        buffer: imagined transitions that are kept from one update to the next.

    Args:
        env: the imagined environment.
        actor: acts in it.
        agent: the agent's numbers.
        start: from real data to where imagination starts.
        compile: compile the losses, where that is possible.
        name: for error messages.
        loss: import path of a ``LossModule``, called as ``Loss(actor, critic, **kwargs)``.
        kwargs: keyword arguments of the loss.
    """

    shown: ClassVar[Mapping[str, str]] = {}
    networks: dict[str, nn.Module]
    critic: Any = None
    losses: Sequence[LossModule]
    buffer: TensorDictReplayBuffer | None = None

    def __init__(
        self,
        env: GLAMImaginedEnv,
        actor: ProbabilisticActor,
        agent: AgentConfig,
        start: Start,
        *,
        compile: bool = False,
        name: str = "",
        loss: str = "torchrl.objectives.A2CLoss",
        kwargs: dict[str, Any] = {},  # noqa: B006 (never written to)
    ) -> None:
        self.env, self.actor, self.agent, self.start = env, actor, agent, start
        self.compile, self.name = compile, name or loss
        self._loss, self._loss_options = loss, dict(kwargs)

    @abc.abstractmethod
    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """Imagine ``horizon`` steps from real ``data [b t]`` and yield scalars for each gradient step in turn.

        The entries whose name begins with ``loss_`` are summed, the others are metrics. What follows a ``yield`` runs
        after the step has been taken.
        """

    def make_critic(self, make: Callable[..., nn.Module], **options: Any) -> Any:
        """Make a critic of the agent's size by one of the functions of :mod:`torchrl_glam.modules.actor_critic`."""
        world_model, agent = self.env.transition.world_model, self.agent
        sizes = {"state_size": world_model.state_size, "width": world_model.dynamics.width}
        return make(**sizes, hidden=agent.hidden, num_layers=agent.num_layers, **options).to(self.env.device)

    def make_loss(self, *args: Any, **defaults: Any) -> Any:
        """Make the loss, called with the actor, ``args``, and ``defaults`` that the objective's ``kwargs`` override.

        Raises:
            UsageError: if there is no such class, or it cannot be made so.
        """
        options = {**defaults, **self._loss_options}
        loss = import_class("objective", self._loss, LossModule)
        return make_module("objective", self._loss, loss, self.actor, *args, **options).to(self.env.device)

    def make_estimator(self, loss: LossModule, kind: ValueEstimators, **options: Any) -> None:
        """Make the value estimator of a loss, with its numbers on the loss's device (torchrl 0.14.1: on the CPU)."""
        loss.make_value_estimator(kind, gamma=self.agent.gamma, **options)
        estimator = getattr(loss, "_value_estimator", None)
        if isinstance(estimator, nn.Module):  # a loss of the user's may do without
            estimator.to(self.env.device)

    def make_target(self, loss: LossModule) -> SoftUpdate | None:
        """Make what moves the target parameters of a loss, if it has any."""
        there = any(name.startswith("target_") and name.endswith("_params") for name, _ in loss.named_children())
        return SoftUpdate(loss, tau=self.agent.slow_critic_rate) if there else None

    def refuse_current_bootstrap(self) -> None:
        """Raise UsageError if the agent bootstraps from ``V_t``, for objectives without a return that could."""
        if self.agent.bootstrap != "next":
            raise UsageError(f"objective={self.name} has no return to bootstrap from V_t: add agent.bootstrap=next")
