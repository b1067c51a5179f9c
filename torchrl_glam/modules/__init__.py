"""Networks: plain modules on tensors, wired to TensorDict keys at the top."""

from __future__ import annotations

from torchrl_glam.modules.actor_critic import (
    make_actor,
    make_critic,
    make_q_values,
    make_symexp_critic,
    make_value,
)
from torchrl_glam.modules.dynamics import (
    DoubleMamba,
    DoubleTransformer,
    GLAMDynamics,
    GMamba,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    SlidingWindow,
    TransformerDynamics,
    check_backbone,
)
from torchrl_glam.modules.policy import GLAMPolicy
from torchrl_glam.modules.recurrent import MambaModule
from torchrl_glam.modules.ssm import MambaBlock
from torchrl_glam.modules.world_model import GLAMWorldModel

__all__ = [
    "DoubleMamba",
    "DoubleTransformer",
    "GLAMDynamics",
    "GLAMPolicy",
    "GLAMWorldModel",
    "GMamba",
    "LMamba",
    "MambaBlock",
    "MambaDynamics",
    "MambaModule",
    "ParallelDynamics",
    "SequenceBackbone",
    "SlidingWindow",
    "TransformerDynamics",
    "check_backbone",
    "make_actor",
    "make_critic",
    "make_q_values",
    "make_symexp_critic",
    "make_value",
]
