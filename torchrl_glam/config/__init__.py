"""Every option and its default: the paper's value (``preset=paper``), with its source.

The dataclasses, in Hydra's ConfigStore once imported, are the schema of ``configs/*.yaml``: these say what differs.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from torchrl_glam.config.agent import AgentConfig, ImaginationConfig, ObjectiveConfig
from torchrl_glam.config.choices import (
    Backbone,
    Bootstrap,
    Decoding,
    Device,
    ImaginedMemory,
    Logger,
    Precision,
    Protocol,
    ReplayPlace,
    Scheme,
    Sees,
    Starts,
    VariationTarget,
)
from torchrl_glam.config.run import (
    CheckpointConfig,
    EnvConfig,
    EvaluationConfig,
    GLAMConfig,
    OptimizerConfig,
    ReplayConfig,
    RunConfig,
    TrainingConfig,
)
from torchrl_glam.config.world_model import DynamicsConfig, ModelLossConfig, WorldModelConfig

__all__ = [
    "AgentConfig",
    "Backbone",
    "Bootstrap",
    "CheckpointConfig",
    "Decoding",
    "Device",
    "DynamicsConfig",
    "EnvConfig",
    "EvaluationConfig",
    "GLAMConfig",
    "ImaginationConfig",
    "ImaginedMemory",
    "Logger",
    "ModelLossConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Precision",
    "Protocol",
    "ReplayConfig",
    "ReplayPlace",
    "RunConfig",
    "Scheme",
    "Sees",
    "Starts",
    "TrainingConfig",
    "VariationTarget",
    "WorldModelConfig",
]

ConfigStore.instance().store(name="glam_config", node=GLAMConfig)
