"""Every option and its default: the paper's value (``preset=paper``), with its source.

Options of a run are dataclasses; those of a part are its constructor's arguments (:mod:`torchrl_glam.config.parts`).
Both are in Hydra's ConfigStore once this is imported. ``configs/*.yaml`` says what differs.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from torchrl_glam.config.choices import (
    Device,
    ImaginedMemory,
    Logger,
    Matmul,
    Observation,
    Precision,
    Protocol,
    ReplayPlace,
    Starts,
)
from torchrl_glam.config.imagination import ImaginationConfig
from torchrl_glam.config.parts import GROUPS, store_parts
from torchrl_glam.config.presets import load_preset
from torchrl_glam.config.run import (
    CheckpointConfig,
    EnvConfig,
    EvaluationConfig,
    GLAMConfig,
    ModelLossConfig,
    OptimizerConfig,
    ReplayConfig,
    RunConfig,
    TrainingConfig,
    WorldModelConfig,
    make_schema,
)
from torchrl_glam.training import AgentConfig

__all__ = [
    "GROUPS",
    "AgentConfig",
    "CheckpointConfig",
    "Device",
    "EnvConfig",
    "EvaluationConfig",
    "GLAMConfig",
    "ImaginationConfig",
    "ImaginedMemory",
    "Logger",
    "Matmul",
    "ModelLossConfig",
    "Observation",
    "OptimizerConfig",
    "Precision",
    "Protocol",
    "ReplayConfig",
    "ReplayPlace",
    "RunConfig",
    "Starts",
    "TrainingConfig",
    "WorldModelConfig",
    "load_preset",
    "make_schema",
]

store_parts()
ConfigStore.instance().store(name="glam_config", node=make_schema({}))
ConfigStore.instance().store(name="random_play_config", node=GLAMConfig)  # no part can be chosen
