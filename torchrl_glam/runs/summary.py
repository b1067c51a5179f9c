"""The result of a run of GLAM, and the parts that were swapped in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchrl_glam.config import GROUPS, GLAMConfig
from torchrl_glam.runs.folder import defining_options
from torchrl_glam.runs.provenance import describe_setting, options_hash
from torchrl_glam.training.evaluation import Episode, Score


def choices(config: GLAMConfig) -> dict[str, str]:
    """Return the swapped parts: ablation, backbone, objective; a user's class by its import path."""
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
    """Return the content of ``result.json``: the scores, what they depend on, and what they cost.

    Args:
        config: the run's options.
        played: episodes of the evaluation.
        total_frames: real steps of the training.
        device: in words.
        evaluation_seconds: by the clock.
        seconds: of the training; None where there was none.
    """
    score = make_score(config, played) if played else None
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
        "returns": score.returns if score else [],
        "lengths": [episode.length for episode in played],
        "cut": sum(episode.cut for episode in played),
        "mean": score.mean if score else None,  # of no episodes
        "human_normalised": score.human_normalised if score else None,
        **trained,
        "evaluation_seconds": evaluation_seconds,
        "device": device,
        **describe_setting(),
    }


def make_score(config: GLAMConfig, played: Sequence[Episode]) -> Score:
    """Return the score of the episodes of an evaluation."""
    return Score(config.env.name, config.env.protocol.value, [episode.episode_return for episode in played])


def config_hash(config: GLAMConfig) -> str:
    """Return a hash that is equal for runs that differ only in seed, environment, length and harmless options.

    ``total_frames`` is left out because a run can be trained on; its result says how many there were.
    """
    own = ("seed", config.SUBJECT)
    return options_hash({name: value for name, value in defining_options(config).items() if name not in own})
