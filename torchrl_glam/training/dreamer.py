"""TorchRL's DreamerV3 losses, which imagine for themselves."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives import TargetNetUpdater
from torchrl.objectives.dreamer_v3 import DreamerV3ActorLoss, DreamerV3ValueLoss

from torchrl_glam.training.metrics import policy_entropy
from torchrl_glam.training.policy import Start


class DreamerObjective:
    """One gradient step on actor and critic for each rollout that the actor's loss makes.

    Args:
        actor_loss: rolls out our imagined environment; reads ``start`` as its state and its belief.
        value_loss: learns the returns of that rollout.
        start: from real data to where imagination starts.
        target: moves the critic's slow copy.
    """

    def __init__(
        self,
        actor_loss: DreamerV3ActorLoss,
        value_loss: DreamerV3ValueLoss,
        *,
        start: Start,
        target: TargetNetUpdater,
    ) -> None:
        self.actor_loss, self.value_loss, self.start, self.target = actor_loss, value_loss, start, target
        self.losses, self.buffer = [actor_loss, value_loss], None

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :class:`~torchrl_glam.training.policy.Objective`."""
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
