"""The parts as Hydra configs, in the groups of ``torchrl.trainers.algorithms.configs``.

Importing ``torchrl_glam`` registers them, so that a Hydra file which composes TorchRL's configs can name ours too:

=========== =================================================================
group       names
=========== =================================================================
``loss``    ``glam_model``, ``glam_critic``
``env``     ``glam_atari``, ``glam_imagined``
``model``   ``glam_world_model``, ``glam_policy``, ``glam_actor``, ``glam_critic``
``network`` ``glam_dynamics``, ``glam_transformer_dynamics``, ``glam_mamba_block``,
            ``glam_gloma``, ``glam_mambadm``
=========== =================================================================

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

from hydra.core.config_store import ConfigStore

from torchrl_glam.config.parts import (
    GLAMActorConfig,
    GLAMAtariEnvConfig,
    GLAMCriticConfig,
    GLAMCriticLossConfig,
    GLAMDynamicsConfig,
    GLAMImaginedEnvConfig,
    GLAMModelLossConfig,
    GLAMPolicyConfig,
    GLAMWorldModelConfig,
    GLoMaConfig,
    MambaBlockConfig,
    MambaDMActorConfig,
    PartConfig,
    TransformerDynamicsConfig,
)

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
    ("network", "glam_gloma"): GLoMaConfig,
    ("network", "glam_mambadm"): MambaDMActorConfig,
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
