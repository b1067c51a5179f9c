"""Proximal policy optimisation of TorchRL's parts."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import nn
from torchrl.data import LazyTensorStorage, SamplerWithoutReplacement, TensorDictReplayBuffer, TensorSpec
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.offline.teachers.config import PPOConfig
from torchrl_glam.offline.teachers.networks import Normaliser, make_actor, make_state_value


class PPOTeacher:
    """Learns discrete and continuous actions (Schulman et al., 2017).

    Args:
        observation_size: of the vector that it reads.
        action_spec: one-hot or a bounded vector, without batch dimensions.
        total_frames: environment steps that there will be.
        config: its options.
    """

    name = "PPO"
    warmup_frames = 0

    def __init__(self, observation_size: int, action_spec: TensorSpec, total_frames: int, config: PPOConfig) -> None:
        self._config = config
        self.num_envs, self.frames_per_batch = config.num_envs, config.frames_per_batch
        self.actor = make_actor(observation_size, action_spec, config.width, normalise=True, log_prob=True)
        self._normaliser = next(part for part in self.actor.modules() if isinstance(part, Normaliser))
        critic = make_state_value(observation_size, config.width, self._normaliser)
        self._loss = ClipPPOLoss(
            self.actor,
            critic,
            clip_epsilon=config.clip_epsilon,
            entropy_coeff=config.entropy_coeff,
            critic_coeff=0.5,
            normalize_advantage=True,
            loss_critic_type="l2",
        )
        self._advantage = GAE(gamma=config.gamma, lmbda=config.lmbda, value_network=critic)
        self._optimizer = torch.optim.Adam(self._loss.parameters(), config.lr, eps=1e-5, fused=True)
        iterations = -(-total_frames // config.frames_per_batch)
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._optimizer, 1.0, 1e-3, iterations)
        self._shuffle = TensorDictReplayBuffer(
            storage=LazyTensorStorage(config.frames_per_batch),
            sampler=SamplerWithoutReplacement(drop_last=True),
            batch_size=config.batch_size,
        )

    def update(self, batch: TensorDictBase) -> None:
        """Learn from a batch of steps ``[b t]``, which the present policy took."""
        for _ in range(self._config.epochs):
            with torch.no_grad():
                self._advantage(batch)
            self._shuffle.extend(batch.flatten())
            for sample in self._shuffle:
                losses = self._loss(sample)
                self._optimizer.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"] + losses.get("loss_entropy", 0.0)).backward()
                nn.utils.clip_grad_norm_(self._loss.parameters(), self._config.max_norm)
                self._optimizer.step()
        self._schedule.step()
        # After the update, so that the policy that is compared with is the one that acted.
        self._normaliser.observe(batch["observation"])
