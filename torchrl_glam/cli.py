"""The command line of the examples: Hydra, with bad input answered in one line.

``preset=auto`` is resolved here, because it depends on the machine: ``paper`` on CUDA, ``cpu`` on a CPU.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torchrl_glam.allocator import keep_freed_memory
from torchrl_glam.checks import check_config
from torchrl_glam.config import Device, GLAMConfig
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.options import fail, first_line, option_names, unknown_option
from torchrl_glam.registry import CONFIGS

Config = TypeVar("Config")
Decorator = Callable[[Callable[[Config], None]], Callable[[], None]]

# An import path is short for an option of the group `custom`.
IMPORTED = {
    "dynamics": ("dynamics=custom", "world_model.dynamics.target"),
    "objective": ("objective=custom", "objective.loss"),
}
SHORT_ERRORS = (UsageError, HydraException, OmegaConfBaseException, FloatingPointError)


def command_line(config_dir: Path, config_name: str) -> Decorator[GLAMConfig]:
    """The :func:`hydra_command` of a GLAM run: options that do not go together are refused.

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
    """

    def prepare(config: GLAMConfig, options: DictConfig, _: list[str]) -> None:
        if config.ablation != "none":
            _check_ablation(options)
        check_config(config)
        if config.training.keep_memory:
            keep_freed_memory()

    return hydra_command(config_dir, config_name, GLAMConfig, prepare)


def hydra_command(
    config_dir: Path,
    config_name: str,
    schema: type[Config],
    prepare: Callable[[Config, DictConfig, list[str]], None],
) -> Decorator[Config]:
    """Turn ``main(config)`` into a command that reads ``key=value`` options.

    A :class:`~torchrl_glam.errors.UsageError`, an unknown option or a value of the wrong type prints one line to stderr
    and exits with status 2, a number that is not finite with status 1. Any other error is a bug, with its traceback.

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
        schema: the dataclass of the options.
        prepare: is called before ``main`` with the options, as dataclass and as Hydra's, and the names of those given.
    """

    def decorate(main: Callable[[Config], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def composed(options: DictConfig) -> None:
            try:
                options = _resolve_preset(options, config_name)
                config = OmegaConf.to_object(options)
                if not isinstance(config, schema):
                    raise TypeError(f"{config_name} composes {type(config).__name__}, not {schema.__name__}")
                given = [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
                prepare(config, options, given)
                main(config)
            except Stopped as stopped:
                sys.stdout.write(f"{stopped}\n")
                if stopped.asked:
                    sys.exit(0)
            except SHORT_ERRORS as error:  # here, because hydra 1.3 announces an exception that leaves a job
                sys.exit(fail(error, _explain(error, schema)))

        @functools.wraps(main)
        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra 1.3 otherwise prints its own many lines and exits
            sys.path.append(os.getcwd())  # for modules of the user's
            try:
                sys.argv[1:] = expand_import_paths(sys.argv[1:])
                sys.argv[1:] = ["check=true" if argument == "--check" else argument for argument in sys.argv[1:]]
                hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)(composed)()
            except SHORT_ERRORS as error:
                sys.exit(fail(error, _explain(error, schema)))
            except KeyboardInterrupt:
                sys.exit("interrupted")

        return command

    return decorate


def expand_import_paths(arguments: list[str]) -> list[str]:
    """Write ``objective=package.module.Loss`` and ``dynamics=package.module.Class`` as options that Hydra knows.

    Examples:
        >>> from torchrl_glam.cli import expand_import_paths
        >>> expand_import_paths(["seed=1", "objective=my_losses.MyLoss"])
        ['seed=1', 'objective=custom', 'objective.loss=my_losses.MyLoss']
        >>> expand_import_paths(["objective=my_losses.One,my_losses.Two"])
        ['objective=custom', 'objective.loss=my_losses.One,my_losses.Two']
    """
    expanded: list[str] = []
    for argument in arguments:
        option, _, value = argument.partition("=")
        paths = [bool(re.fullmatch(r"\w+([.:]\w+)+", path)) for path in value.split(",")]
        if option in IMPORTED and all(paths):
            choice, target = IMPORTED[option]
            expanded += [choice, f"{target}={value}"]
        elif option in IMPORTED and any(paths):
            raise UsageError(f"{argument} mixes names with import paths: sweep over them one after the other")
        else:
            expanded.append(argument)
    return expanded


def resolve_device(device: Device) -> torch.device:
    """The torch device that ``device=auto|cpu|cuda`` means here.

    Raises:
        UsageError: if CUDA is asked for where there is none.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise UsageError("device=cuda, but torch finds no CUDA device: use device=cpu or a CUDA build of torch")
    if device is Device.auto:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device.value)


def _resolve_preset(options: DictConfig, config_name: str) -> DictConfig:
    """The options with ``preset=auto`` replaced by what it means here, where there is one."""
    if options.get("preset") != "auto":
        return options
    preset = "paper" if resolve_device(options.device).type == "cuda" else "cpu"
    given = [override for override in HydraConfig.get().overrides.task if not override.startswith("preset=")]
    return hydra.compose(config_name, overrides=[*given, f"preset={preset}"])


def _check_ablation(options: DictConfig) -> None:
    """Raise UsageError for an option that undoes what the ablation says: the run would have the wrong name."""
    sources = HydraConfig.get().runtime.config_sources
    folder = next(source.path for source in sources if source.provider == "main")
    ablation: Any = OmegaConf.load(Path(folder, "ablation", f"{options.ablation}.yaml"))
    said = {name: OmegaConf.select(ablation, name) for name in option_names(ablation) if name != "defaults"}
    for choice in ablation.get("defaults", ()):
        said["world_model.dynamics.name"] = choice["override /dynamics"]
    for name, wanted in said.items():
        value = OmegaConf.select(options, name)
        if getattr(value, "value", value) != wanted:
            raise UsageError(
                f"ablation={options.ablation} means {name}={wanted}, the options say {getattr(value, 'value', value)}: "
                "leave one of them out"
            )


def _explain(error: BaseException, schema: type[Any]) -> str:
    """What came, what was wanted and what to do, in one line."""
    text = " ".join(str(error).split())
    if unknown := re.match(r"Could not override '([^']+)'", text):
        if ".kwargs." in unknown[1]:
            return f"{unknown[1]} is not there yet: write +{unknown[1]}=..."
        return unknown_option(unknown[1], schema, "options are listed in torchrl_glam/config")
    if missing := re.search(
        r"Could not find '([^']+)/([^']+)' Available options in '[^']+': (.+?)(?: Config |$)", text
    ):
        own = ", or give package.module.Class" if missing[1] in IMPORTED else ""
        parts = {name for group, name in CONFIGS if group == missing[1]}  # for others' Hydra files, in the same groups
        names = ", ".join(name for name in missing[3].split() if name not in parts)
        return f"{missing[1]}={missing[2]} does not exist: choose one of {names}{own}"
    if absent := re.search(r"missing mandatory value: (\S+)", text):
        return f"give {absent[1]}=..."
    if merging := re.match(r"Error merging override (.+)", text):
        cause = error.__cause__ or error.__context__
        return f"{merging[1]}: {first_line(cause) if cause else 'not a valid value'}"
    return text
