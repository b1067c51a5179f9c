"""Options as the command line makes them, and what is made of the smallest ones."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torchrl.data import OneHot

from tests.support.paths import CONFIGS
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.config.parts import store_imported
from torchrl_glam.modules import GLAMWorldModel

SPEC = OneHot(3)
TINY = [
    "world_model.channels=[2,2,2,2]",
    "world_model.num_categoricals=3",
    "world_model.num_classes=4",
    "world_model.dynamics.width=8",
    "world_model.dynamics.d_state=3",
    "agent.hidden=8",
    "imagination.batch_size=2",
    "replay.batch_size=6",
    "run_dir=unused",
]


def load(*overrides: str) -> GLAMConfig:
    """Return the config that the command line makes of these options."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        store_imported(overrides)
        return OmegaConf.to_object(compose("glam_atari", overrides=["run_dir=unused", *overrides]))


def flatten(node: object, prefix: str = "") -> dict[str, object]:
    """Return dotted option names and their values."""
    values: dict[str, object] = {}
    for option in fields(node):
        value = getattr(node, option.name)
        if hasattr(value, "__dataclass_fields__"):
            values |= flatten(value, f"{prefix}{option.name}.")
        else:
            plain = value.value if isinstance(value, Enum) else value
            values[prefix + option.name] = list(plain) if isinstance(plain, tuple) else plain
    return values


def tiny_world_model(config: GLAMConfig) -> GLAMWorldModel:
    """Make the world model of these options with noise on every parameter, the same whatever the residual."""
    torch.manual_seed(0)
    world_model = factory.make_world_model(config, SPEC, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in world_model.named_parameters():
        if "post_norm" not in name:  # so that both residuals get the same noise elsewhere
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return world_model
