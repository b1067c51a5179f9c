"""Checks of options that cannot work, by themselves or together, before anything is built."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from torchrl_glam.config.choices import Starts
from torchrl_glam.config.run import INIT_PARTS, GLAMConfig, RunConfig
from torchrl_glam.errors import UNPRINTABLE, UsageError
from torchrl_glam.modules.policy import SEES
from torchrl_glam.objectives.returns import BOOTSTRAPS, PERCENTILES

MAY_BE_ZERO = (
    "evaluation.episodes",
    "evaluation.every",
    "seed",
    "newest",
    "rewarded",
    "first_valid",
    "unroll_steps",
    "horizon_step",
    "media_every",
    "max_steps",
    "warmup_updates",
    "sac.learning_starts",
)
CHOICES = {"bootstrap": BOOTSTRAPS, "sees": SEES, "return_percentiles": PERCENTILES}
MOST = 2**31 - 1  # of a whole number; seeds are added to, and NumPy takes those below 2**32
LIMITS = {  # what no run needs: beyond it, options from elsewhere would take all memory, or all time
    "threads": 1024,
    **dict.fromkeys(("num_layers", "global_layers", "local_layers", "num_heads", "d_conv", "frame_skip"), 1000),
    **dict.fromkeys(("num_envs", "expand", "epochs", "minibatches", "keep", "image_size"), 10_000),
    **dict.fromkeys(("width", "hidden", "head_width", "channels", "d_state", "window", "local_length"), 65_536),
    **dict.fromkeys(("num_categoricals", "num_classes", "num_bins"), 65_536),
    **dict.fromkeys(("context", "context_length", "batch_length", "max_length", "max_steps", "batch_size"), 1_000_000),
    **dict.fromkeys(("first_valid", "horizon", "horizon_max", "newest", "updates"), 1_000_000),
}
RESUME = ("auto", "true", "false", "force")
SHARES = (
    "gamma",
    "lmbda",
    "unimix",
    "beta2",
    "slow_critic_rate",
    "return_norm_rate",
    "dropout",
    "fraction",
    "tau",
    "gae_lambda",
    "entropy_target",
)


def check_config(config: GLAMConfig) -> None:
    """Raise UsageError, naming the option, for values that cannot work."""
    check_run(config)
    _check_length(config)
    if unknown := [part for part in config.init_parts if part not in INIT_PARTS]:
        raise UsageError(f"init_parts={unknown[0]} does not exist: choose of {', '.join(INIT_PARTS)}")
    for name, choices in CHOICES.items():
        if (value := getattr(config.agent, name)) not in choices:
            raise UsageError(f"agent.{name}={value} does not exist: choose {' or '.join(choices)}")
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
    if (steps := config.model_loss.unroll_steps) > (most := replay.batch_length - config.model_loss.first_valid - 1):
        raise UsageError(
            f"model_loss.unroll_steps={steps} are too many for replay.batch_length={replay.batch_length}: give at most "
            f"{most}, or longer sequences"
        )
    backend = getattr(config.world_model.dynamics, "backend", None)
    if config.training.compile and backend in ("reference", "mamba_ssm"):
        raise UsageError(
            f"training.compile=true cannot compile world_model.dynamics.backend={backend}: use auto, torch or triton"
        )
    _check_starts(config)
    if not 0 <= replay.newest < min(replay.batch_size, imagination.batch_size):
        raise UsageError(
            f"replay.newest={replay.newest}: give a number from 0 to below replay.batch_size={replay.batch_size} "
            f"and imagination.batch_size={imagination.batch_size}"
        )
    if replay.rewarded > (rest := replay.batch_size - replay.newest):
        raise UsageError(
            f"replay.rewarded={replay.rewarded}: give at most {rest}, replay.batch_size={replay.batch_size} without "
            f"replay.newest={replay.newest}"
        )


def check_run(config: RunConfig) -> None:
    """Raise UsageError for what is out of range in any run's options."""
    check_values(config)
    if not config.run_dir:
        raise UsageError("run_dir= names no folder: give one, or leave it out")
    if config.resume.lower() not in RESUME:
        raise UsageError(f"resume={config.resume} does not exist: choose one of {', '.join(RESUME)}")
    config.resume = config.resume.lower()  # OmegaConf reads true as True


def _check_starts(config: GLAMConfig) -> None:
    """Refuse starts of imagination that the world model's batches do not have."""
    replay, imagination = config.replay, config.imagination
    every = (config.training.world_model_every, config.training.policy_every)
    if imagination.starts is Starts.batch and every[1] % every[0]:
        raise UsageError(
            f"imagination.starts=batch wants training.policy_every={every[1]} to be a multiple of "
            f"training.world_model_every={every[0]}: there is a batch to start from only then"
        )
    positions = replay.batch_size * max(0, replay.batch_length - 1 - config.first_start())
    if imagination.starts is Starts.batch and imagination.batch_size > positions:
        fewer = f"give at most {positions}, or a shorter context" if positions else "give a shorter context"
        raise UsageError(
            f"imagination.starts=batch finds {positions} starts in a batch of the world model, after "
            f"imagination.context_length={imagination.context_length} steps; imagination.batch_size="
            f"{imagination.batch_size} wants more: {fewer}"
        )
    if config.agent.replay_value_coeff and imagination.starts is not Starts.batch:
        raise UsageError(
            f"agent.replay_value_coeff={config.agent.replay_value_coeff} wants the world model's batches: add "
            "imagination.starts=batch"
        )


def _check_length(config: GLAMConfig) -> None:
    """Refuse a backbone that is told to remember fewer tokens than the run has in a sequence."""
    length, longest = getattr(config.world_model.dynamics, "max_length", None), config.longest_sequence()
    if length is not None and length < longest:
        raise UsageError(
            f"world_model.dynamics.max_length={length} is too short for this run's longest sequence, {longest} (a "
            "batch, or a context and imagination.horizon_max): give that or more, or leave it out"
        )


def check_names(options: Any, prefix: str = "") -> None:
    """Raise UsageError for an option that a dataclass of options, nested ones too, does not have."""
    known = [option.name for option in fields(options)]
    for name in vars(options).keys() - set(known):  # added by +name=value
        has = ", ".join(option for option in known if not option.startswith("_")) or "none"
        raise UsageError(f"there is no option {prefix}{name}: the options there are {has}")
    for name in known:
        if is_dataclass(value := getattr(options, name)):
            check_names(value, f"{prefix}{name}.")


def check_values(options: Any, prefix: str = "") -> None:
    """Raise UsageError for what is out of range in any dataclass of options, nested ones too: a number, or a text.

    A text must come back from ``config.yaml``, which is read without interpolations and control characters.
    """
    for option in fields(options):
        value, name = getattr(options, option.name), f"{prefix}{option.name}"
        _check_texts(name, value)
        if is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, list):
            whole, most = all(type(number) is int for number in value), LIMITS.get(option.name, MOST)
            if not value or (whole and not 1 <= min(value) <= max(value) <= most) or not all(map(_is_finite, value)):
                wanted = "at least 1 number" if not value else "whole numbers of at least 1" if whole else "numbers"
                raise UsageError(f"{name}={value}: give {wanted}{f', at most {most}' if value and whole else ''}")
        elif type(value) is int:
            least, most = int(not {name, option.name} & set(MAY_BE_ZERO)), LIMITS.get(option.name, MOST)
            if not least <= value <= most:
                wanted = f"of at least {least}" if value < least else f"from {least} to {most}"
                raise UsageError(f"{name}={value}: give a whole number {wanted}")
        elif type(value) is float:
            share = option.name in SHARES
            if not math.isfinite(value) or value < 0.0 or (share and value > 1.0):
                wanted = "a number from 0 to 1" if share else "a finite number of at least 0"
                raise UsageError(f"{name}={value}: give {wanted}")


def _check_texts(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(name, key)
            _check_texts(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(name, inner)
    elif isinstance(value, str):
        if "${" in value:
            raise UsageError(f"{name}={value} holds ${{, which a run's options cannot: write the value without")
        if UNPRINTABLE.search(value):
            raise UsageError(f"{name}={value!a} has control characters: leave them out")


def _is_finite(number: Any) -> bool:
    return not isinstance(number, float) or math.isfinite(number)  # a whole number may be too large for a float
