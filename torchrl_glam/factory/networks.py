"""The networks, and the environment that one of them is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor

from torchrl_glam.config import Backbone, GLAMConfig, ImaginedMemory, Scheme
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.factory.imports import make_from_path
from torchrl_glam.modules import (
    GLAMDynamics,
    GLAMPolicy,
    GLAMWorldModel,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    SlidingWindow,
    TransformerDynamics,
    check_backbone,
    make_actor,
    make_critic,
    make_q_values,
    make_symexp_critic,
    make_value,
)


def make_dynamics(config: GLAMConfig) -> SequenceBackbone:
    """The sequence backbone that ``dynamics=...`` chooses."""
    options = config.world_model.dynamics
    name, width, depths = options.name, options.width, (options.global_layers, options.local_layers)
    mamba: dict[str, Any] = {
        "post_norm": options.post_norm,
        "d_state": options.d_state,
        "d_conv": options.d_conv,
        "expand": options.expand,
        "backend": options.backend,
    }
    transformer: dict[str, Any] = {
        "num_heads": options.num_heads,
        "dropout": options.dropout,
        "max_length": options.max_length or config.longest_sequence(),
    }
    if name is Backbone.glam:
        return GLAMDynamics(width, global_layers=depths[0], local_layers=depths[1], window=options.window, **mamba)
    if name is Backbone.lmamba_only:
        return LMamba(width, options.local_layers, options.window, **mamba)
    if name is Backbone.double_mamba:
        return _side_by_side([MambaDynamics(width, num_layers=depth, **mamba) for depth in depths])
    if name is Backbone.storm:
        return TransformerDynamics(width, num_layers=options.global_layers, **transformer)
    if name is Backbone.double_transformer:
        return _side_by_side([TransformerDynamics(width, num_layers=depth, **transformer) for depth in depths])
    backbone = make_from_path("dynamics", options.target or "", SequenceBackbone, width, **options.kwargs)
    check_backbone(backbone, config.longest_sequence())
    return backbone


def _side_by_side(branches: Sequence[SequenceBackbone]) -> ParallelDynamics:
    return ParallelDynamics(dict(zip(("first", "second"), branches, strict=True)))


def make_world_model(config: GLAMConfig, action_spec: TensorSpec, device: torch.device) -> GLAMWorldModel:
    """The world model, in eval mode: only its update trains BatchNorm."""
    options = config.world_model
    world_model = GLAMWorldModel(
        action_spec.shape[-1],
        make_dynamics(config),
        channels=options.channels,
        num_categoricals=options.num_categoricals,
        num_classes=options.num_classes,
        head_width=options.head_width,
        unimix=options.unimix,
        reward_decoding=options.reward_decoding.value,
    )
    return world_model.to(device).eval()


def make_agent(
    config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec
) -> tuple[ProbabilisticActor, TensorDictModule]:
    """Actor, and the critic that the objective wants, on the world model's device."""
    device = next(world_model.parameters()).device
    sizes = (world_model.state_size, world_model.dynamics.width)
    hidden = {"hidden": config.agent.hidden, "num_layers": config.agent.num_layers}
    actor = make_actor(*sizes, action_spec.to(device), **hidden)
    if config.objective.scheme is Scheme.off_policy:
        if action_spec.domain != "discrete":
            raise UsageError(
                f"objective={config.objective.name} wants discrete actions, which {config.env.name} has not: "
                "choose glam, a2c, ppo, reinforce or dreamer_v3"
            )
        return actor.to(device), make_q_values(*sizes, action_spec.shape[-1], **hidden).to(device)
    makers = {Scheme.glam: make_critic, Scheme.on_policy: make_value, Scheme.dreamer: make_symexp_critic}
    return actor.to(device), makers[config.objective.scheme](*sizes, **hidden).to(device)


def make_policy(
    config: GLAMConfig, world_model: GLAMWorldModel, actor: TensorDictModuleBase, action_spec: TensorSpec
) -> GLAMPolicy:
    """The policy that acts in the real environment."""
    device = next(world_model.parameters()).device
    return GLAMPolicy(
        world_model,
        actor,
        action_spec.to(device),
        context_length=config.agent.context_length,
        sees=config.agent.sees.value,
    )


def make_imagined_env(config: GLAMConfig, world_model: GLAMWorldModel, action_spec: TensorSpec) -> GLAMImaginedEnv:
    """The world model as an environment."""
    sliding = config.imagination.memory is ImaginedMemory.sliding
    dynamics = SlidingWindow(world_model.dynamics, config.imagination.window) if sliding else None
    return GLAMImaginedEnv(
        world_model,
        action_spec,
        batch_size=config.imagination.batch_size,
        dynamics=dynamics,
        keep_memory=config.objective.scheme is not Scheme.dreamer,  # its loss keeps all that a rollout holds
        compiled=config.training.compile,
    )
