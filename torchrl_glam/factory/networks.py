"""The networks, and the environment that one of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from hydra.utils import get_method
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.envs import EnvBase
from torchrl.modules import ProbabilisticActor

from torchrl_glam import modules
from torchrl_glam.config import GLAMConfig, ImaginedMemory
from torchrl_glam.data.replay import OBSERVATIONS
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMPolicy, GLAMWorldModel, SequenceBackbone, SlidingWindow, check_backbone
from torchrl_glam.modules.autoencoders import check_encoder, example_observation
from torchrl_glam.modules.heads import check_reward_head
from torchrl_glam.training.imports import make_module


def make_part(option: str, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Make what a node describes, called with the arguments that are no options.

    Raises:
        UsageError: if somebody's class cannot be made so.
    """
    options = {name: value for name, value in vars(node).items() if not name.startswith("_")}
    for name, value in options.items():
        if hasattr(value, "_target_"):  # a part that this one makes
            options[name] = partial(make_part, name, value)
    target = get_method(node._target_)
    if is_own(target):
        return target(*args, **kwargs, **options)
    return make_module(option, node._target_, target, *args, **kwargs, **options)


def is_own(part: Any) -> bool:
    """Return True for a class or function of this package, which is not tried out on numbers when it is made."""
    return part.__module__.startswith("torchrl_glam.")


def make_dynamics(config: GLAMConfig) -> SequenceBackbone:
    """Make the sequence backbone. An option ``max_length`` that is not given is the run's longest sequence."""
    node, sizes = config.world_model.dynamics, {}
    if getattr(node, "max_length", 0) is None:
        sizes["max_length"] = config.longest_sequence()
    backbone = make_part("dynamics", replace(node, **sizes))
    if not is_own(type(backbone)):
        check_backbone(backbone, config.longest_sequence())
    return backbone


def make_world_model(
    config: GLAMConfig,
    action_spec: TensorSpec,
    device: torch.device,
    *,
    image_shape: Sequence[int] | None = (64, 64, 3),
    vector_size: int = 0,
) -> GLAMWorldModel:
    """Make the world model, in eval mode: only its update trains BatchNorm.

    Args:
        config: the run's options.
        action_spec: the environment's, without batch dimensions.
        device: where it lies.
        image_shape, vector_size: what the environment observes, see :func:`observed_sizes`.
    """
    dynamics = make_dynamics(config)
    node = replace(config.world_model, dynamics=dynamics)
    sizes = {"image_shape": image_shape, "vector_size": vector_size}
    world_model: GLAMWorldModel = make_part("world_model", node, action_spec.shape[-1], **sizes)
    if not is_own(type(world_model.reward_head)):
        check_reward_head(world_model.reward_head, world_model.dynamics.width)
    if not (is_own(type(world_model.encoder)) and is_own(type(world_model.decoder))):
        observation = example_observation(world_model.image_shape, vector_size, world_model.observation_keys)
        check_encoder(world_model.encoder, world_model.decoder, observation, world_model.latent_shape)
    return world_model.to(device).eval()


def observed_sizes(env: EnvBase) -> dict[str, Any]:
    """Return the sizes of what an environment observes: ``image_shape``, or None, and ``vector_size``, or 0."""
    spec, batch = env.full_observation_spec, env.batch_dims
    shapes = {key: tuple(spec[key].shape[batch:]) for key in OBSERVATIONS if key in spec}
    return {"image_shape": shapes.get("pixels"), "vector_size": shapes.get("observation", (0,))[0]}


def make_actor(config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec) -> ProbabilisticActor:
    """Make the actor, on the world model's device."""
    device = next(world_model.parameters()).device
    sizes = (world_model.state_size, world_model.dynamics.width)
    actor = modules.make_actor(
        *sizes, action_spec.to(device), hidden=config.agent.hidden, num_layers=config.agent.num_layers
    )
    return actor.to(device)


def make_policy(
    config: GLAMConfig, world_model: GLAMWorldModel, actor: TensorDictModuleBase, action_spec: TensorSpec
) -> GLAMPolicy:
    """Make the policy that acts in the real environment."""
    spec = action_spec.to(next(world_model.parameters()).device)
    options = {name: getattr(config.agent, name) for name in ("context_length", "sees", "keep_context")}
    return GLAMPolicy(world_model, actor, spec, **options)


def make_imagined_env(config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec) -> GLAMImaginedEnv:
    """Make the environment that the world model is."""
    options = config.imagination
    sliding = options.memory is ImaginedMemory.sliding
    return GLAMImaginedEnv(
        world_model,
        action_spec,
        batch_size=options.batch_size,
        dynamics=SlidingWindow(world_model.dynamics, options.window) if sliding else None,
        compiled=config.training.compile,
    )
