"""What a run says of itself: its first line, what was swapped in it, its result."""

from __future__ import annotations

from typing import Any

from torch import nn

from torchrl_glam.config import GLAMConfig
from torchrl_glam.estimate import duration
from torchrl_glam.modules import GLAMWorldModel, MambaBlock
from torchrl_glam.modules.ssm import resolve_backend
from torchrl_glam.resources import device_name
from torchrl_glam.training import Score


def first_line(config: GLAMConfig, world_model: GLAMWorldModel, agent: nn.Module, seconds: float) -> str:
    """What runs where, how large it is, how long the whole of it takes."""
    device = next(world_model.parameters()).device
    swapped = [f"{option} {value}" for option, value in choices(config).items() if value not in ("none", "glam")]
    scans = any(isinstance(module, MambaBlock) for module in world_model.modules())
    parts = [f"preset {config.preset}", *swapped]
    parts += [f"scan {resolve_backend(config.world_model.dynamics.backend, device)}"] if scans else []
    return (
        f"{config.env.name} ({world_model.action_size} actions, protocol {config.env.protocol.value}) | "
        f"device {device_name(device)} | {' | '.join(parts)} | "
        f"world model {_millions(world_model)}, agent {_millions(agent)} parameters | "
        f"{config.total_frames} frames, about {duration(seconds)} and the evaluation | {config.run_dir}"
    )


def choices(config: GLAMConfig) -> dict[str, str]:
    """What was swapped: ablation, backbone, objective; a class of the user's by its import path."""
    dynamics, objective = config.world_model.dynamics, config.objective
    return {
        "ablation": config.ablation,
        "dynamics": dynamics.target or dynamics.name.value,
        "objective": objective.loss if objective.name == "custom" else objective.name,
    }


def describe_result(config: GLAMConfig, score: Score, total_frames: int, seconds: float, device: str) -> dict[str, Any]:
    """What ``result.json`` says."""
    return {
        "env": config.env.name,
        "protocol": config.env.protocol.value,
        "preset": config.preset,
        **choices(config),
        "seed": config.seed,
        "total_frames": total_frames,
        "returns": score.returns,
        "mean": score.mean,
        "human_normalised": score.human_normalised,
        "seconds": seconds,
        "device": device,
    }


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"
