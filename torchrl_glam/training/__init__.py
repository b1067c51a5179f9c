"""The updates of world model and agent, and the evaluation; the loop over them is ``examples/glam_atari.py``."""

from __future__ import annotations

from torchrl_glam.training.agent import AgentConfig
from torchrl_glam.training.dreamer import DreamerObjective
from torchrl_glam.training.evaluation import Episode, FirstEpisode, Score, episode_returns, evaluate, play_episodes
from torchrl_glam.training.glam import GLAMObjective
from torchrl_glam.training.objective import Objective, Start
from torchrl_glam.training.off_policy import OffPolicyObjective
from torchrl_glam.training.on_policy import OnPolicyObjective
from torchrl_glam.training.policy import PolicyUpdate
from torchrl_glam.training.steps import (
    autocast,
    check_finite,
    checked_loss,
    optimizer_step,
    step_metrics,
    trained_parameters,
)
from torchrl_glam.training.world_model import WorldModelUpdate

__all__ = [
    "AgentConfig",
    "DreamerObjective",
    "Episode",
    "FirstEpisode",
    "GLAMObjective",
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
    "optimizer_step",
    "play_episodes",
    "step_metrics",
    "trained_parameters",
]
