"""TorchRL's DreamerV3 losses, which imagine for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives import SoftUpdate, ValueEstimators
from torchrl.objectives.dreamer_v3 import DreamerV3ValueLoss

from torchrl_glam.modules.actor_critic import make_symexp_critic
from torchrl_glam.modules.signature import passes_on
from torchrl_glam.training.metrics import policy_entropy
from torchrl_glam.training.objective import Objective


class DreamerObjective(Objective):
    """One gradient step on actor and critic for each rollout that the actor's loss makes.

    The actor's loss rolls out our imagined environment. The critic has bins of its own, and a slow copy that it is held
    to.

    Args:
        inputs, options: as for every :class:`Objective`.
        loss: import path of the actor's loss.
    """

    @passes_on(Objective)
    def __init__(self, *inputs: Any, loss: str = "torchrl.objectives.DreamerV3ActorLoss", **options: Any) -> None:
        super().__init__(*inputs, loss=loss, **options)
        self.refuse_current_bootstrap()
        self.env.keep_memory = False  # the loss keeps all that a rollout holds
        agent, self.critic = self.agent, self.make_critic(make_symexp_critic)
        self.actor_loss = self.make_loss(
            self.critic,
            self.env,
            continuation_model=self.env.make_continuation_model(),
            entropy_bonus=agent.entropy_coeff,
            return_normalization_rate=agent.return_norm_rate,
        )
        self.actor_loss.set_keys(state="start", belief="start")
        self.make_estimator(self.actor_loss, ValueEstimators.TDLambda, lmbda=agent.lmbda)
        self.value_loss = DreamerV3ValueLoss(
            self.critic, value_loss="two_hot", actor_loss=self.actor_loss, slow_critic_regularization=1.0
        ).to(self.env.device)
        self.target = SoftUpdate(self.value_loss, tau=agent.slow_critic_rate)
        self.losses = [self.actor_loss, self.value_loss]
        self.networks = {"actor": self.actor, "critic": self.critic}

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :meth:`Objective.terms`."""
        with torch.no_grad():
            start = self.start(data)
        self.actor_loss.imagination_horizon = horizon
        terms, rollout = self.actor_loss(TensorDict({"start": start}, batch_size=start.shape))
        value_terms, _ = self.value_loss(rollout)
        terms.update(value_terms)
        terms.update(policy_entropy(rollout))  # its own, actor_entropy, is discounted, and 0 without an entropy bonus
        terms["value_error"] = (rollout["lambda_target"] - self._value(rollout)).abs().mean()
        terms["imagined_reward"] = rollout["next", "reward"].mean()
        terms["imagined_return"] = rollout["lambda_target"].mean()
        yield terms
        self.target.step()

    @torch.no_grad()
    def _value(self, rollout: TensorDictBase) -> Tensor:
        """Once more, 2 % of an update: neither loss gives away the values that it computes (torchrl 0.14.1)."""
        critic = self.actor_loss.value_model
        return critic(rollout.select(*critic.in_keys))["state_value"]
