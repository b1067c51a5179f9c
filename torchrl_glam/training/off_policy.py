"""Objectives that learn from a buffer of imagined transitions: discrete SAC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torchrl.data import LazyTensorStorage, MultiOneHot, TensorDictReplayBuffer
from torchrl.objectives import SoftUpdate, ValueEstimators

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.actor_critic import make_q_values
from torchrl_glam.modules.signature import passes_on
from torchrl_glam.training.metrics import add_missing, policy_entropy
from torchrl_glam.training.objective import Objective


class OffPolicyObjective(Objective):
    """Imagine a rollout, put its transitions into a buffer, take gradient steps on batches of that.

    The loss holds critics shaped as the one that it is given. Latents and beliefs in the buffer are those of the world
    model as it was when they were imagined: a small capacity keeps them fresh.

    Args:
        inputs, options: as for every :class:`Objective`.
        loss: import path of a loss of the kind of :class:`torchrl.objectives.DiscreteSACLoss`.
        updates: gradient steps after each rollout.
        batch_size: transitions in each step.
        capacity: transitions kept.

    Raises:
        UsageError: if the actions are not discrete.
    """

    shown: ClassVar[Mapping[str, str]] = {"loss_qvalue": "critic"}
    buffer: TensorDictReplayBuffer

    @passes_on(Objective)
    def __init__(
        self,
        *inputs: Any,
        loss: str = "torchrl.objectives.DiscreteSACLoss",
        updates: int = 1,
        batch_size: int = 256,
        capacity: int = 65_536,
        **options: Any,
    ) -> None:
        super().__init__(*inputs, loss=loss, **options)
        self.refuse_current_bootstrap()
        spec = self.env.action_spec
        if spec.domain != "discrete" or isinstance(spec, MultiOneHot):
            has = "several at once" if spec.domain == "discrete" else "continuous ones"
            raise UsageError(
                f"objective={self.name} wants discrete actions, one at a time, and the environment has {has}: choose "
                "glam, a2c, ppo, reinforce or dreamer_v3"
            )
        critic = self.make_critic(make_q_values, num_actions=spec.shape[-1])
        self.loss = self.make_loss(critic, action_space="one-hot", num_actions=spec.shape[-1])
        self.make_estimator(self.loss, ValueEstimators.TD0)
        self.target = SoftUpdate(self.loss, tau=self.agent.slow_critic_rate)
        self.losses, self.updates = [self.loss], updates
        self.networks = {"actor": self.actor, "loss": self.loss}
        storage = LazyTensorStorage(capacity, device=self.env.device)
        self.buffer = TensorDictReplayBuffer(storage=storage, batch_size=batch_size)

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :meth:`Objective.terms`."""
        with torch.no_grad():
            rollout = self.env.imagine(self.start(data), self.actor, horizon)
        self.buffer.extend(rollout.select(*self.loss.in_keys).reshape(-1))
        metrics = {**policy_entropy(rollout), "imagined_reward": rollout["next", "reward"].mean()}
        for _ in range(self.updates):
            batch = self.buffer.sample()
            terms = add_missing(self.loss(batch), metrics)
            if (error := batch.get("td_error", None)) is not None:  # TorchRL's losses write it for a prioritised buffer
                terms = add_missing(terms, {"value_error": error.mean()})
            yield terms
            self.target.step()
