"""Config to objects: the only place that knows both."""

from __future__ import annotations

from torchrl_glam.factory.networks import (
    make_actor,
    make_dynamics,
    make_imagined_env,
    make_policy,
    make_world_model,
    observed_sizes,
)
from torchrl_glam.factory.real import (
    EVALUATION_SEED,
    make_collector,
    make_env,
    make_evaluation_env,
    make_replay,
    num_evaluation_episodes,
    set_seeds,
)
from torchrl_glam.factory.updates import (
    make_objective,
    make_optimizer,
    make_policy_update,
    make_start,
    make_world_model_update,
)

__all__ = [
    "EVALUATION_SEED",
    "make_actor",
    "make_collector",
    "make_dynamics",
    "make_env",
    "make_evaluation_env",
    "make_imagined_env",
    "make_objective",
    "make_optimizer",
    "make_policy",
    "make_policy_update",
    "make_replay",
    "make_start",
    "make_world_model",
    "make_world_model_update",
    "num_evaluation_episodes",
    "observed_sizes",
    "set_seeds",
]
