"""The parts as Hydra configs, in the groups of ``torchrl.trainers.algorithms.configs``.

Importing ``torchrl_glam`` registers them, so that a Hydra file which composes TorchRL's configs can name ours too:

========== ==================================================================
group      names
========== ==================================================================
``loss``   ``glam_model``, ``glam_critic``
``env``    ``glam_atari``, ``glam_imagined``
``model``  ``glam_world_model``, ``glam_policy``, ``glam_actor``, ``glam_critic``
``network`` ``glam_dynamics``, ``glam_transformer_dynamics``, ``glam_mamba_block``
========== ==================================================================

A config's fields are the parameters of what it builds, with the same defaults; ``???`` marks those that must be given.
``hydra.utils.instantiate`` builds whatever is nested. What two parts share it would build twice, and a TorchRL spec it
takes for a config: with ``_partial_: true`` it returns a function that wants just these,
``instantiate(config.env)(world_model=loss.world_model, action_spec=spec)``. Import TorchRL's configs before
``torchrl_glam``, or call :func:`register` after both.

Examples:
    >>> from hydra import compose, initialize
    >>> from hydra.utils import instantiate
    >>> import torchrl_glam
    >>> parts = ["+loss=glam_model", "+model@loss.world_model=glam_world_model", "loss.world_model.action_size=6"]
    >>> with initialize(version_base=None):
    ...     config = compose(overrides=[*parts, "loss.world_model.num_categoricals=16", "loss.free_nats=0.5"])
    >>> loss = instantiate(config.loss)
    >>> type(loss).__name__, loss.free_nats, loss.world_model.state_size
    ('GLAMModelLoss', 0.5, 512)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# No import of torch here: importing the package has to stay quick. The fields are therefore written out, and a test
# keeps them equal to the signatures.


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


CONFIGS: dict[tuple[str, str], type[PartConfig]] = {
    ("loss", "glam_model"): GLAMModelLossConfig,
    ("loss", "glam_critic"): GLAMCriticLossConfig,
    ("env", "glam_atari"): GLAMAtariEnvConfig,
    ("env", "glam_imagined"): GLAMImaginedEnvConfig,
    ("model", "glam_world_model"): GLAMWorldModelConfig,
    ("model", "glam_policy"): GLAMPolicyConfig,
    ("model", "glam_actor"): GLAMActorConfig,
    ("model", "glam_critic"): GLAMCriticConfig,
    ("network", "glam_dynamics"): GLAMDynamicsConfig,
    ("network", "glam_transformer_dynamics"): TransformerDynamicsConfig,
    ("network", "glam_mamba_block"): MambaBlockConfig,
}
"""Every config by its group and name."""


def register() -> None:
    """Put all of them into Hydra's ``ConfigStore``; doing so again changes nothing.

    Some fields of TorchRL's configs, a collector's ``create_env_fn`` above all, take none but TorchRL's own. Ours count
    as such if TorchRL's configs were imported before this.
    """
    for (group, name), config in CONFIGS.items():
        ConfigStore.instance().store(group=group, name=name, node=config, provider="torchrl_glam")
    torchrl_configs = sys.modules.get("torchrl.trainers.algorithms.configs.common")
    if torchrl_configs is not None:
        torchrl_configs.ConfigBase.register(PartConfig)


register()
