"""The parts as Hydra configs, in the groups of ``torchrl.trainers.algorithms.configs``.

Importing this module registers them, so that a Hydra file which composes TorchRL's configs can name ours too:

=========== ==========================================================================
group       names
=========== ==========================================================================
``loss``    ``glam_model``, ``glam_critic``
``env``     ``glam_atari``, ``glam_imagined``
``model``   ``glam_world_model``, ``glam_policy``, ``glam_actor``, ``glam_critic``
``network`` ``glam_dynamics``, ``glam_transformer_dynamics``, ``glam_mamba_block``,
            ``glam_gloma``, ``glam_mambadm`` (of ``torchrl_glam.offline.config``)
=========== ==========================================================================

A config's fields are the parameters of what it builds, with the same defaults; ``???`` marks those that must be given.
``hydra.utils.instantiate`` builds whatever is nested. What two parts share it would build twice, and a TorchRL spec it
takes for a config: with ``_partial_: true`` it returns a function that wants just these,
``instantiate(config.env)(world_model=loss.world_model, action_spec=spec)``. Import TorchRL's configs before
this module, or call :func:`register` after both.

Examples:
    >>> from hydra import compose, initialize
    >>> from hydra.utils import instantiate
    >>> import torchrl_glam.config.registry
    >>> parts = ["+loss=glam_model", "+model@loss.world_model=glam_world_model", "loss.world_model.action_size=6"]
    >>> with initialize(version_base=None):
    ...     config = compose(overrides=[*parts, "loss.world_model.num_categoricals=16", "loss.first_valid=4"])
    >>> loss = instantiate(config.loss)
    >>> type(loss).__name__, loss.first_valid, loss.world_model.state_size
    ('GLAMModelLoss', 4, 512)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from torchrl_glam.config.parts import Builds
from torchrl_glam.envs import GLAMImaginedEnv, make_atari_env
from torchrl_glam.modules import (
    GLAMDynamics,
    GLAMPolicy,
    GLAMWorldModel,
    MambaBlock,
    TransformerDynamics,
    make_actor,
    make_critic,
)
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss


@dataclass
class PartConfig:
    """Fields that Hydra reads of any part."""

    _partial_: bool = False
    _convert_: str = "all"  # lists and dicts, not OmegaConf's own


PARTS: dict[tuple[str, str], Any] = {
    ("loss", "glam_model"): GLAMModelLoss,
    ("loss", "glam_critic"): GLAMCriticLoss,
    ("env", "glam_atari"): make_atari_env,
    ("env", "glam_imagined"): GLAMImaginedEnv,
    ("model", "glam_world_model"): GLAMWorldModel,
    ("model", "glam_policy"): GLAMPolicy,
    ("model", "glam_actor"): make_actor,
    ("model", "glam_critic"): make_critic,
    ("network", "glam_dynamics"): GLAMDynamics,
    ("network", "glam_transformer_dynamics"): TransformerDynamics,
    ("network", "glam_mamba_block"): MambaBlock,
}
"""Every part by its group and name."""


def register(parts: dict[tuple[str, str], Any] = PARTS) -> None:
    """Put nodes of ``parts`` into Hydra's ``ConfigStore``; doing so again changes nothing.

    Some fields of TorchRL's configs, a collector's ``create_env_fn`` above all, take none but TorchRL's own. Ours count
    as such if TorchRL's configs were imported before this.
    """
    for (group, name), part in parts.items():
        options: dict[str, Any] = {
            "populate_full_signature": True,
            "builds_bases": (PartConfig,),
            "zen_dataclass": {"kw_only": True},
        }
        node = Builds.builds(part, **options)
        ConfigStore.instance().store(group=group, name=name, node=node, provider="torchrl_glam")
    torchrl_configs = sys.modules.get("torchrl.trainers.algorithms.configs.common")
    if torchrl_configs is not None:
        torchrl_configs.ConfigBase.register(PartConfig)


register()
