"""Sequence backbones behind one contract (:mod:`torchrl_glam.modules.dynamics.base`)."""

from __future__ import annotations

from torchrl_glam.modules.dynamics.base import SequenceBackbone
from torchrl_glam.modules.dynamics.contract import check_backbone
from torchrl_glam.modules.dynamics.doubles import DoubleMamba, DoubleTransformer
from torchrl_glam.modules.dynamics.glam import GLAMDynamics
from torchrl_glam.modules.dynamics.gmamba import GMamba
from torchrl_glam.modules.dynamics.layers import ResidualMamba
from torchrl_glam.modules.dynamics.lmamba import LMamba
from torchrl_glam.modules.dynamics.mamba import MambaDynamics
from torchrl_glam.modules.dynamics.parallel import ParallelDynamics
from torchrl_glam.modules.dynamics.sliding import SlidingWindow
from torchrl_glam.modules.dynamics.transformer import TransformerDynamics

__all__ = [
    "DoubleMamba",
    "DoubleTransformer",
    "GLAMDynamics",
    "GMamba",
    "LMamba",
    "MambaDynamics",
    "ParallelDynamics",
    "ResidualMamba",
    "SequenceBackbone",
    "SlidingWindow",
    "TransformerDynamics",
    "check_backbone",
]
