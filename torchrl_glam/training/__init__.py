"""What one update does, for the world model and for each kind of agent; and evaluation. The loop is the example."""

from __future__ import annotations

from torchrl_glam.training.dreamer import DreamerObjective
from torchrl_glam.training.evaluation import Episode, FirstEpisode, Score, episode_returns, evaluate, play_episodes
from torchrl_glam.training.off_policy import OffPolicyObjective
from torchrl_glam.training.on_policy import OnPolicyObjective, make_glam_estimate, make_lambda_estimate
from torchrl_glam.training.policy import Objective, PolicyUpdate, Start, trained_parameters
from torchrl_glam.training.steps import autocast, check_finite, checked_loss, optimizer_step
from torchrl_glam.training.world_model import WorldModelUpdate

__all__ = [
    "DreamerObjective",
    "Episode",
    "FirstEpisode",
    "Objective",
    "OffPolicyObjective",
    "OnPolicyObjective",
    "PolicyUpdate",
    "Score",
    "Start",
    "WorldModelUpdate",
    "autocast",
    "check_finite",
    "checked_loss",
    "episode_returns",
    "evaluate",
    "make_glam_estimate",
    "make_lambda_estimate",
    "optimizer_step",
    "play_episodes",
    "trained_parameters",
]
