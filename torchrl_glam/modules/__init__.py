"""Networks: plain modules on tensors, wired to TensorDict keys at the top."""

from __future__ import annotations

from torchrl_glam.modules.actor_critic import (
    make_actor,
    make_critic,
    make_q_values,
    make_symexp_critic,
    make_value,
)
from torchrl_glam.modules.autoencoders import (
    Encoder,
    ImageDecoder,
    ImageEncoder,
    JoinedDecoder,
    JoinedEncoder,
    MixedDecoder,
    MixedEncoder,
    PatchDecoder,
    PatchEncoder,
    VectorDecoder,
    VectorEncoder,
    auto_decoder,
    auto_encoder,
    check_encoder,
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
    "Encoder",
    "GLAMDynamics",
    "GLAMPolicy",
    "GLAMWorldModel",
    "GMamba",
    "ImageDecoder",
    "ImageEncoder",
    "JoinedDecoder",
    "JoinedEncoder",
    "LMamba",
    "MambaBlock",
    "MambaDynamics",
    "MambaModule",
    "MixedDecoder",
    "MixedEncoder",
    "ParallelDynamics",
    "PatchDecoder",
    "PatchEncoder",
    "SequenceBackbone",
    "SlidingWindow",
    "TransformerDynamics",
    "VectorDecoder",
    "VectorEncoder",
    "auto_decoder",
    "auto_encoder",
    "check_backbone",
    "check_encoder",
    "make_actor",
    "make_critic",
    "make_q_values",
    "make_symexp_critic",
    "make_value",
]
