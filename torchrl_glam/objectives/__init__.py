"""Losses in TorchRL's manner: they read a TensorDict and return named terms, summing nothing."""

from __future__ import annotations

from torchrl_glam.objectives.actor_critic import GLAMCriticLoss
from torchrl_glam.objectives.world_model import GLAMModelLoss
from torchrl_glam.objectives.world_model_terms import total_loss

__all__ = ["GLAMCriticLoss", "GLAMModelLoss", "total_loss"]
