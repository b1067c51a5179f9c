"""Objectives that learn from a buffer of imagined transitions: discrete SAC."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.objectives import LossModule, TargetNetUpdater

from torchrl_glam.envs.imagined import GLAMImaginedEnv
from torchrl_glam.training.metrics import add_missing, policy_entropy
from torchrl_glam.training.policy import Start


class OffPolicyObjective:
    """Imagine a rollout, put its transitions into a buffer, take gradient steps on batches of that.

    Latents and beliefs in the buffer are those of the world model as it was when they were imagined: a small capacity
    keeps them fresh.

    Args:
        env: the imagined environment.
        actor: acts in it.
        loss: a TorchRL loss on transitions.
        start: from real data to where imagination starts.
        target: moves the loss's target parameters after each step.
        capacity: transitions kept.
        batch_size: transitions in each step.
        updates: gradient steps after each rollout.
    """

    def __init__(
        self,
        env: GLAMImaginedEnv,
        actor: TensorDictModuleBase,
        loss: LossModule,
        *,
        start: Start,
        target: TargetNetUpdater,
        capacity: int,
        batch_size: int,
        updates: int,
    ) -> None:
        self.env, self.actor, self.loss, self.start, self.target = env, actor, loss, start, target
        self.losses = [loss]
        self.updates = updates
        storage = LazyTensorStorage(capacity, device=env.device)
        self.buffer = TensorDictReplayBuffer(storage=storage, batch_size=batch_size)

    def terms(self, data: TensorDictBase, horizon: int) -> Iterator[TensorDictBase]:
        """See :class:`~torchrl_glam.training.policy.Objective`."""
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
