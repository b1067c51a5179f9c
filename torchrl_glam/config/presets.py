"""The options of a run by the name of a preset, in Python: what the command line makes of the same yaml files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from torchrl_glam.config.checks import check_config, check_names
from torchrl_glam.config.choices import Observation
from torchrl_glam.config.flat import flatten_options, plain_options, unknown_option
from torchrl_glam.config.parts import GROUPS, store_imported
from torchrl_glam.config.run import EnvConfig, GLAMConfig
from torchrl_glam.envs.gymnasium import observes_vectors
from torchrl_glam.errors import UsageError, first_line, one_line
from torchrl_glam.machine.folders import CONFIGS

CHOSEN = ("preset", "ablation", *GROUPS)  # options that stand for a whole file or part


def load_preset(preset: str = "auto", options: Mapping[str, Any] | None = None) -> GLAMConfig:
    """Return the options that the command line makes of ``preset=...`` and those given.

    The result is a dataclass, whose fields may be changed. ``run_dir`` is ``runs/glam`` if it is not given.

    Args:
        preset: ``paper``, ``released``, ``cpu``, ``vector``, ``small``, ``debug``; ``auto``: see :func:`resolve_auto`.
        options: values by the dotted names of the command line, parts by their names or import paths.

    Raises:
        UsageError: for a preset, an option or a part that does not exist, and for values that cannot work.

    Examples:
        >>> from torchrl_glam.config import load_preset
        >>> config = load_preset("cpu", {"env.name": "ALE/Boxing-v5", "objective": "ppo", "imagination.horizon": 12})
        >>> config.total_frames, config.world_model.dynamics.width, config.objective.name, config.imagination.horizon
        (20000, 128, 'ppo', 12)
    """
    given = {"run_dir": GLAMConfig.run_dir, **(options or {}), "preset": preset}
    if preset == "auto":
        on_gpu = torch.cuda.is_available() and str(getattr(device := given.get("device"), "value", device)) != "cpu"
        env = [given.get(f"env.{name}", getattr(EnvConfig, name)) for name in ("name", "observation", "pixels_key")]
        given["preset"] = resolve_auto(on_gpu, *env)
    check_places(given)
    chosen = [f"{name}={given.pop(name)}" for name in CHOSEN if name in given]
    store_imported(chosen)
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            node = compose("glam_atari", chosen)
        for name, value in given.items():
            _set(node, name, value)
        config: Any = OmegaConf.to_object(node)
    except (HydraException, OmegaConfBaseException) as error:
        reason = one_line(error).partition(" Config search path")[0]
        raise UsageError(f"the options cannot be read: {reason}") from error
    check_names(config)
    check_config(config)
    check_ablation(CONFIGS, config)
    return config


def resolve_auto(on_gpu: bool, name: str, observation: Observation | str, pixels_key: str | None) -> str:
    """Return the preset that ``auto`` stands for, by the options of the environment.

    It is ``vector`` for an environment that observes vectors alone, else ``paper`` on CUDA and ``cpu`` on a CPU.
    """
    if observes_vectors(name, str(getattr(observation, "value", observation)), pixels_key):
        return "vector"
    return "paper" if on_gpu else "cpu"


def check_places(names: Collection[str]) -> None:
    """Raise UsageError for the name of an option that stands for a part, or for what a part is made by."""
    for option, group in GROUPS.items():
        for name in {group.place, f"{group.place}.name", f"{group.place}._target_"} - {option}:
            if name in names:
                raise UsageError(f"{name} cannot be set by itself: choose a part as a whole, by {option}=...")
    for name in names:
        if name in ("world_model", "model_loss") or name.endswith(("._target_", "._partial_")):
            raise UsageError(f"{name} is no option: give those below it, or choose {', '.join(GROUPS)}")


def check_ablation(config_dir: Path, config: GLAMConfig) -> None:
    """Raise UsageError for an option that undoes what the ablation says: the run would have the wrong name."""
    if config.ablation == "none":
        return
    options = flatten_options(plain_options(config))
    options["dynamics"] = GROUPS["dynamics"].name_of(config.world_model.dynamics)
    ablation: Any = OmegaConf.to_container(OmegaConf.load(config_dir / "ablation" / f"{config.ablation}.yaml"))
    for choice in ablation.pop("defaults", ()):
        ablation["dynamics"] = choice["override /dynamics"]
    for name, wanted in flatten_options(ablation).items():
        if options[name] != wanted:
            raise UsageError(
                f"ablation={config.ablation} means {name}={wanted}, the options say {options[name]}: "
                "leave one of them out"
            )


def _set(node: DictConfig, name: str, value: Any) -> None:
    """Set an option by its dotted name.

    Raises:
        UsageError: if there is none of that name, or it takes no such value.
    """
    try:
        OmegaConf.update(node, name, value, force_add=".kwargs." in name)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise UsageError(unknown_option(name, GLAMConfig, "options are listed in torchrl_glam/config")) from error
    except OmegaConfBaseException as error:
        raise UsageError(f"{name}={value}: {first_line(error)}") from error
