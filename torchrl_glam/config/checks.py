"""Options that cannot work, alone or together, refused before anything is built."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from torchrl_glam.config import Backbone, Bootstrap, GLAMConfig, ObjectiveConfig, RunConfig, Scheme, Starts
from torchrl_glam.errors import UsageError

MAY_BE_ZERO = (
    "evaluation.every",
    "seed",
    "newest",
    "first_valid",
    "horizon_step",
    "media_every",
    "max_steps",
    "warmup_updates",
    "sac.warmup_frames",
)
RESUME = ("auto", "true", "false", "force")
SHARES = ("gamma", "lmbda", "unimix", "beta2", "slow_critic_rate", "return_norm_rate", "dropout", "fraction", "tau")

# What objective=... stands for, and the options of its own that each scheme reads.
OBJECTIVES = {
    "glam": (Scheme.glam, "A2CLoss"),
    "a2c": (Scheme.on_policy, "A2CLoss"),
    "ppo": (Scheme.on_policy, "ClipPPOLoss"),
    "reinforce": (Scheme.on_policy, "ReinforceLoss"),
    "dreamer_v3": (Scheme.dreamer, "DreamerV3ActorLoss"),
    "discrete_sac": (Scheme.off_policy, "DiscreteSACLoss"),
}
READ = {
    Scheme.glam: ("epochs", "minibatches"),
    Scheme.on_policy: ("epochs", "minibatches"),
    Scheme.dreamer: (),
    Scheme.off_policy: ("updates", "batch_size", "capacity"),
}
TRANSFORMERS = (Backbone.storm, Backbone.double_transformer)


def check_config(config: GLAMConfig) -> None:
    """Raise UsageError, naming the option, for values that cannot work."""
    check_run(config)
    _check_objective(config)
    _check_dynamics(config)
    warmup, replay, imagination = config.training.warmup_frames, config.replay, config.imagination
    if config.total_frames <= warmup:
        above = f"above training.warmup_frames={warmup}, or nothing is trained: give at least {warmup + 1}"
        raise UsageError(f"total_frames={config.total_frames} must be {above}")
    if config.total_frames % (together := config.env.num_envs):
        raise UsageError(f"total_frames={config.total_frames} must be a multiple of env.num_envs={together}")
    if config.training.overlap and together > 1:
        raise UsageError(
            f"training.overlap=true plays one environment, not env.num_envs={together}: leave one of them out"
        )
    longest = max(replay.batch_length, imagination.context_length) + replay.newest
    if min(warmup, replay.capacity) // together < longest:
        each = "" if together == 1 else f" of each of env.num_envs={together}"
        raise UsageError(
            f"training.warmup_frames={warmup} and replay.capacity={replay.capacity} must hold a sequence of "
            f"{longest} frames{each} (replay.batch_length, imagination.context_length, replay.newest): give "
            f"{longest * together} or more"
        )
    if replay.batch_length < (least := config.model_loss.first_valid + 2):
        wanted = f"at least model_loss.first_valid + 2 = {least}"
        raise UsageError(f"replay.batch_length={replay.batch_length} is too short for the loss: give {wanted}")
    backend = config.world_model.dynamics.backend
    if config.training.compile and backend in ("reference", "mamba_ssm"):
        raise UsageError(
            f"training.compile=true cannot compile world_model.dynamics.backend={backend}: use auto, torch or triton"
        )
    every = (config.training.world_model_every, config.training.policy_every)
    if imagination.starts is Starts.batch and every[1] % every[0]:
        raise UsageError(
            f"imagination.starts=batch wants training.policy_every={every[1]} to be a multiple of "
            f"training.world_model_every={every[0]}: there is a batch to start from only then"
        )
    positions = replay.batch_size * (replay.batch_length - 1 - config.model_loss.first_valid)
    if imagination.starts is Starts.batch and imagination.batch_size > positions:
        raise UsageError(
            f"imagination.starts=batch finds {positions} starts in a batch of the world model, "
            f"imagination.batch_size={imagination.batch_size} wants more: give at most {positions}"
        )
    if not 0 <= replay.newest < min(replay.batch_size, imagination.batch_size):
        raise UsageError(
            f"replay.newest={replay.newest}: give a number from 0 to below replay.batch_size={replay.batch_size} "
            f"and imagination.batch_size={imagination.batch_size}"
        )


def check_run(config: RunConfig) -> None:
    """Raise UsageError for what is out of range in any run's options."""
    check_values(config)
    if config.resume.lower() not in RESUME:
        raise UsageError(f"resume={config.resume} does not exist: choose one of {', '.join(RESUME)}")
    config.resume = config.resume.lower()  # OmegaConf reads true as True


def _check_objective(config: GLAMConfig) -> None:
    objective = config.objective
    name, scheme, loss = objective.name, objective.scheme, objective.loss
    if name == "custom":
        if not loss:
            raise UsageError("objective=custom wants a loss: give its import path, objective=package.module.Loss")
    elif OBJECTIVES.get(name) != (scheme, loss.rpartition(".")[2]):
        raise UsageError(
            f"objective.name={name} does not go with objective.scheme={scheme.value} and objective.loss={loss}: choose "
            f"them together by objective={'|'.join(OBJECTIVES)}, or give objective=package.module.Loss"
        )
    for option in fields(ObjectiveConfig):
        own = option.name in ("name", "scheme", "loss", "kwargs", *READ[scheme])
        if not own and (value := getattr(objective, option.name)) != option.default:
            raise UsageError(f"objective.{option.name}={value} means nothing to objective={name}: leave it out")
    if config.agent.bootstrap is Bootstrap.current and scheme in (Scheme.dreamer, Scheme.off_policy):
        raise UsageError(f"objective={name} has no return to bootstrap from V_t: add agent.bootstrap=next")


def _check_dynamics(config: GLAMConfig) -> None:
    dynamics = config.world_model.dynamics
    if (dynamics.name is Backbone.custom) != bool(dynamics.target) or (dynamics.kwargs and not dynamics.target):
        raise UsageError(
            f"world_model.dynamics has name={dynamics.name.value}, target={dynamics.target}, kwargs={dynamics.kwargs}: "
            "for a class of yours give dynamics=package.module.Class, else neither target nor kwargs"
        )
    longest = config.longest_sequence()
    if dynamics.name in TRANSFORMERS and dynamics.max_length is not None and dynamics.max_length < longest:
        raise UsageError(
            f"world_model.dynamics.max_length={dynamics.max_length} is too short for this run's longest sequence, "
            f"{longest} (a batch, or a context and imagination.horizon_max): give that or more, or leave it out"
        )


def check_values(options: Any, prefix: str = "") -> None:
    """Raise UsageError for a number that is out of range in any dataclass of options, nested ones too."""
    for option in fields(options):
        value, name = getattr(options, option.name), f"{prefix}{option.name}"
        if is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, list):
            whole = all(type(number) is int for number in value)
            if not value or (whole and min(value) < 1) or not all(map(math.isfinite, value)):
                wanted = "at least 1 number" if not value else "whole numbers of at least 1" if whole else "numbers"
                raise UsageError(f"{name}={value}: give {wanted}")
        elif type(value) is int and value < (least := int(not {name, option.name} & set(MAY_BE_ZERO))):
            raise UsageError(f"{name}={value}: give a whole number of at least {least}")
        elif type(value) is float:
            most = 1.0 if option.name in SHARES else math.inf
            if not 0.0 <= value <= most:
                raise UsageError(f"{name}={value}: give a number from 0 to {most:g}")
