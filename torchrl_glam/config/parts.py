"""The fields of the parts that :mod:`torchrl_glam.config.registry` tells Hydra of.

No import of torch here: importing the package has to stay quick. The fields are therefore written out, and a test keeps
them equal to the signatures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class PartConfig:
    """What Hydra needs to know of any part."""

    _partial_: bool = False
    _convert_: str = "all"  # lists and dicts, not OmegaConf's own


@dataclass
class GLAMModelLossConfig(PartConfig):
    """:class:`torchrl_glam.objectives.GLAMModelLoss`."""

    _target_: str = "torchrl_glam.objectives.GLAMModelLoss"
    world_model: Any = MISSING
    first_valid: int = 3
    dynamics_coeff: float = 0.5
    representation_coeff: float = 0.1
    variation_coeff: float = 0.1
    free_nats: float = 1.0
    variation_target: str = "logits"
    variation_free_nats: float = 1.0
    keep_state: bool = False


@dataclass
class GLAMCriticLossConfig(PartConfig):
    """:class:`torchrl_glam.objectives.GLAMCriticLoss`."""

    _target_: str = "torchrl_glam.objectives.GLAMCriticLoss"
    critic_network: Any = MISSING
    bins: Any = None
    gamma: float = 0.985
    lmbda: float = 0.95
    bootstrap: str = "next"


@dataclass
class GLAMAtariEnvConfig(PartConfig):
    """:func:`torchrl_glam.envs.make_atari_env`."""

    _target_: str = "torchrl_glam.envs.make_atari_env"
    name: str = MISSING
    protocol: str = "glam"
    seed: int | None = None
    frame_skip: int | None = None
    image_size: int = 64
    num_envs: int = 1


@dataclass
class GLAMImaginedEnvConfig(PartConfig):
    """:class:`torchrl_glam.envs.GLAMImaginedEnv`."""

    _target_: str = "torchrl_glam.envs.GLAMImaginedEnv"
    world_model: Any = MISSING
    action_spec: Any = MISSING
    batch_size: Any = None  # a number, or a list of them
    dynamics: Any = None
    starts: Any = None
    keep_memory: bool = True
    compiled: bool = False


@dataclass
class GLAMWorldModelConfig(PartConfig):
    """:class:`torchrl_glam.modules.GLAMWorldModel`."""

    _target_: str = "torchrl_glam.modules.GLAMWorldModel"
    action_size: int = MISSING
    dynamics: Any = None
    image_shape: list[int] = field(default_factory=lambda: [64, 64, 3])
    channels: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    num_categoricals: int = 32
    num_classes: int = 32
    head_width: int | None = None
    unimix: float = 0.01
    reward_decoding: str = "symlog"


@dataclass
class GLAMPolicyConfig(PartConfig):
    """:class:`torchrl_glam.modules.GLAMPolicy`."""

    _target_: str = "torchrl_glam.modules.GLAMPolicy"
    world_model: Any = MISSING
    actor: Any = MISSING
    action_spec: Any = MISSING
    context_length: int = 16
    sees: str = "prior"


@dataclass
class GLAMActorConfig(PartConfig):
    """:func:`torchrl_glam.modules.make_actor`."""

    _target_: str = "torchrl_glam.modules.make_actor"
    state_size: int = MISSING
    width: int = MISSING
    action_spec: Any = MISSING
    hidden: int = 512
    num_layers: int = 2


@dataclass
class GLAMCriticConfig(PartConfig):
    """:func:`torchrl_glam.modules.make_critic`."""

    _target_: str = "torchrl_glam.modules.make_critic"
    state_size: int = MISSING
    width: int = MISSING
    hidden: int = 512
    num_layers: int = 2


@dataclass
class GLAMDynamicsConfig(PartConfig):
    """:class:`torchrl_glam.modules.GLAMDynamics`, with the options of its Mamba layers."""

    _target_: str = "torchrl_glam.modules.GLAMDynamics"
    width: int = 256
    global_layers: int = 1
    local_layers: int = 1
    window: int = 4
    post_norm: bool = True
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    backend: str = "auto"


@dataclass
class TransformerDynamicsConfig(PartConfig):
    """:class:`torchrl_glam.modules.TransformerDynamics`."""

    _target_: str = "torchrl_glam.modules.TransformerDynamics"
    width: int = 256
    num_layers: int = 1
    num_heads: int = 8
    dropout: float = 0.1
    max_length: int = 64
    norm_first: bool = False
    expand: int = 2
    activation: str = "relu"


@dataclass
class MambaBlockConfig(PartConfig):
    """:class:`torchrl_glam.modules.MambaBlock`."""

    _target_: str = "torchrl_glam.modules.MambaBlock"
    d_model: int = MISSING
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    dt_rank: int | str = "auto"
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init: str = "random"
    dt_scale: float = 1.0
    dt_init_floor: float = 1e-4
    conv_bias: bool = True
    bias: bool = False
    backend: str = "auto"


@dataclass
class GLoMaConfig(PartConfig):
    """:class:`torchrl_glam.offline.GLoMa`."""

    _target_: str = "torchrl_glam.offline.GLoMa"
    width: int = MISSING
    local_length: int = 6
    fusion: str = "sum"
    branches: str = "both"
    dropout: float = 0.1
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    backend: str = "auto"


@dataclass
class MambaDMActorConfig(GLoMaConfig):
    """:class:`torchrl_glam.offline.MambaDMActor`, with the options of its blocks."""

    _target_: str = "torchrl_glam.offline.MambaDMActor"
    observation_shape: list[int] = MISSING
    action_size: int = MISSING
    width: int = 128
    num_layers: int = 3
    context: int = 20
    max_steps: int = 4096
    output_size: int | None = None
