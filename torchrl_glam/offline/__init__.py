"""Decisions learned from datasets: MambaDM, the models that it is compared with, data, evaluation."""

from __future__ import annotations

from torchrl_glam.offline.actions import make_decision_actor
from torchrl_glam.offline.actor import BehaviourCloningActor, DecisionTransformerActor, DMambaActor, MambaDMActor
from torchrl_glam.offline.base import DecisionActor
from torchrl_glam.offline.dataset import OfflineDataset, load_dataset, normalised_score
from torchrl_glam.offline.gloma import GLoMa, GLoMaStack
from torchrl_glam.offline.policy import DecisionPolicy
from torchrl_glam.offline.windows import SameData, draw_windows, make_windows

__all__ = [
    "BehaviourCloningActor",
    "DMambaActor",
    "DecisionActor",
    "DecisionPolicy",
    "DecisionTransformerActor",
    "GLoMa",
    "GLoMaStack",
    "MambaDMActor",
    "OfflineDataset",
    "SameData",
    "draw_windows",
    "load_dataset",
    "make_decision_actor",
    "make_windows",
    "normalised_score",
]
