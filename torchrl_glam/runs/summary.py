"""What a run says of itself: its first line, what was swapped in it, its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

import torchrl_glam
from torchrl_glam.config import GROUPS, GLAMConfig
from torchrl_glam.machine.terminal import duration
from torchrl_glam.modules import GLAMWorldModel, MambaBlock
from torchrl_glam.modules.ssm import resolve_backend
from torchrl_glam.machine.resources import device_name
from torchrl_glam.runs.folder import defining_options
from torchrl_glam.runs.provenance import describe_machine, git_state, options_hash, package_versions
from torchrl_glam.training.evaluation import Episode, Score


def first_line(config: GLAMConfig, world_model: GLAMWorldModel, agent: nn.Module, seconds: float) -> str:
    """What runs where, how large it is, how long the whole of it takes."""
    device = next(world_model.parameters()).device
    swapped = [f"{option} {value}" for option, value in choices(config).items() if value not in ("none", "glam")]
    scans = any(isinstance(module, MambaBlock) for module in world_model.modules())
    parts = [f"preset {config.preset}", *swapped]
    backend = getattr(config.world_model.dynamics, "backend", "auto")
    parts += [f"scan {resolve_backend(backend, device)}"] if scans else []
    return (
        f"{config.env.name} ({world_model.action_size} actions, protocol {config.env.protocol.value}) | "
        f"device {device_name(device)} | {' | '.join(parts)} | "
        f"world model {_millions(world_model)}, agent {_millions(agent)} parameters | "
        f"{config.total_frames} frames, about {duration(seconds)} and the evaluation | {config.run_dir}"
    )


def choices(config: GLAMConfig) -> dict[str, str]:
    """What was swapped: ablation, backbone, objective; a class of the user's by its import path."""
    return {
        "ablation": config.ablation,
        "dynamics": GROUPS["dynamics"].name_of(config.world_model.dynamics),
        "objective": GROUPS["objective"].name_of(config.objective),
    }


def describe_result(
    config: GLAMConfig,
    played: Sequence[Episode],
    *,
    total_frames: int,
    device: str,
    evaluation_seconds: float,
    seconds: float | None = None,
) -> dict[str, Any]:
    """What ``result.json`` says: the scores, on what they depend, and what they cost.

    Args:
        config: the run's options.
        played: episodes of the evaluation.
        total_frames: real steps of the training.
        device: in words.
        evaluation_seconds: by the clock.
        seconds: of the training; None where there was none.
    """
    score = make_score(config, played)
    trained = {} if seconds is None else {"seconds": seconds, "steps_per_second": total_frames / seconds}
    return {
        "env": config.env.name,
        "protocol": config.env.protocol.value,
        "preset": config.preset,
        **choices(config),
        "seed": config.seed,
        "total_frames": total_frames,
        "config_hash": config_hash(config),
        "greedy": config.evaluation.greedy,
        "returns": score.returns,
        "lengths": [episode.length for episode in played],
        "cut": sum(episode.cut for episode in played),
        "mean": score.mean,
        "human_normalised": score.human_normalised,
        **trained,
        "evaluation_seconds": evaluation_seconds,
        "device": device,
        "machine": describe_machine(),
        "versions": package_versions(),
        "git": git_state(Path(torchrl_glam.__file__)),
    }


def make_score(config: GLAMConfig, played: Sequence[Episode]) -> Score:
    """The score that episodes amount to."""
    return Score(config.env.name, config.env.protocol.value, [episode.episode_return for episode in played])


def config_hash(config: GLAMConfig) -> str:
    """The same for runs that differ in nothing but seed, environment and what changes no result.

    Not of ``total_frames`` either: a run can be trained on, and its result says how far it came.
    """
    own = ("seed", config.SUBJECT)
    return options_hash({name: value for name, value in defining_options(config).items() if name not in own})


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"
