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
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torchrl_glam.command.arguments import IMPORTED, expand_arguments, study_arguments
from torchrl_glam.command.options import fail, option_names, unknown_option
from torchrl_glam.command.study.launch import Command, run_study
from torchrl_glam.command.study.plan import GROUP, task_overrides
from torchrl_glam.config import Device, GLAMConfig, RunConfig
from torchrl_glam.config.checks import check_config
from torchrl_glam.config.registry import CONFIGS
from torchrl_glam.errors import Stopped, UsageError, first_line, one_line
from torchrl_glam.machine.allocator import keep_freed_memory
from torchrl_glam.machine.compilation import check_compiler

Config = TypeVar("Config")
Decorator = Callable[[Callable[[Config], None]], Callable[[], None]]

SHORT_ERRORS = (UsageError, HydraException, OmegaConfBaseException, FloatingPointError)


def command_line(config_dir: Path, config_name: str) -> Decorator[GLAMConfig]:
    """The :func:`hydra_command` of a GLAM run: options that do not go together are refused.

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
    """
    return hydra_command(config_dir, config_name, GLAMConfig, functools.partial(_prepare, config_dir))


def hydra_command(
    config_dir: Path, config_name: str, schema: type[Config], prepare: Callable[[Config, list[str]], None]
) -> Decorator[Config]:
    """Turn ``main(config)`` into a command that reads ``key=value`` options.

    A :class:`~torchrl_glam.errors.UsageError`, an unknown option or a value of the wrong type prints one line to stderr
    and exits with status 2, a number that is not finite with status 1. Any other error is a bug, with its traceback.
    With ``-m``, a command that has a group ``study`` among its defaults runs a
    study (:mod:`torchrl_glam.command.study`).

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
        schema: the dataclass of the options.
        prepare: is called before ``main`` with the options and the names of those given.
    """

    def decorate(main: Callable[[Config], None]) -> Callable[[], None]:
        explain = functools.partial(_explain, schema=schema)
        read = functools.partial(_read, config_name, schema, prepare)
        run = functools.partial(_run, read, main)

        @functools.wraps(main)
        def composed(options: DictConfig) -> None:
            try:
                _check_launcher()
                run(options)
            except Stopped as stopped:
                sys.stdout.write(f"{stopped}\n")
                if stopped.asked:
                    sys.exit(0)
            except SHORT_ERRORS as error:  # here, because hydra 1.3 announces an exception that leaves a job
                sys.exit(fail(error, explain(error)))

        @functools.wraps(main)
        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra 1.3 otherwise prints its own many lines and exits
            sys.path.append(os.getcwd())  # for modules of the user's
            try:
                sys.argv[1:] = expand_arguments(sys.argv[1:])
                overrides = study_arguments(sys.argv[1:]) if _has_studies(config_dir, config_name) else None
                if overrides is not None:
                    study = Command(config_dir, config_name, schema, read, run, SHORT_ERRORS, explain)
                    sys.exit(run_study(study, overrides))
                hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)(composed)()
            except SHORT_ERRORS as error:
                sys.exit(fail(error, explain(error)))
            except KeyboardInterrupt:
                sys.exit("interrupted")

        return command

    return decorate


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


def _read(
    config_name: str,
    schema: type[Config],
    prepare: Callable[[Config, list[str]], None],
    options: DictConfig,
    given: list[str],
) -> Config:
    """One run's options as dataclass, checked; ``given`` are those of its command, ``name=value``."""
    if options.get("preset") == "auto":
        preset = "paper" if resolve_device(options.device).type == "cuda" else "cpu"
        kept = [override for override in given if not override.startswith("preset=")]
        options = hydra.compose(config_name, overrides=[*kept, f"preset={preset}"])
    config = OmegaConf.to_object(options)
    if not isinstance(config, schema):
        raise TypeError(f"{config_name} composes {type(config).__name__}, not {schema.__name__}")
    prepare(config, [override.lstrip("+~").split("=")[0] for override in given])
    return config


def _run(read: Callable[[DictConfig, list[str]], Config], main: Callable[[Config], None], options: DictConfig) -> None:
    """One run, in the process in which Hydra calls its job."""
    config = read(options, task_overrides(HydraConfig.get()))
    if isinstance(config, RunConfig) and config.threads is not None:
        torch.set_num_threads(config.threads)  # not those between operations, which torch lets be set but once
    main(config)


def _has_studies(config_dir: Path, config_name: str) -> bool:
    primary: Any = OmegaConf.load(config_dir / f"{config_name}.yaml")
    return any(OmegaConf.is_dict(choice) and GROUP in choice for choice in primary.get("defaults", ()))


def _check_launcher() -> None:
    """Raise UsageError where runs are to be launched and there are none to sweep over."""
    group = HydraConfig.get().runtime.choices.get(GROUP, "none")
    if group != "none" and HydraConfig.get().mode is RunMode.RUN:
        raise UsageError(f"{GROUP}={group} launches the runs of a sweep: add -m, also for a single one")


def _prepare(config_dir: Path, config: GLAMConfig, _: list[str]) -> None:
    if config.ablation != "none":
        _check_ablation(config_dir, config)
    check_config(config)
    if config.training.compile:
        check_compiler("training.compile=true", resolve_device(config.device))
    if config.training.keep_memory:
        keep_freed_memory()


def _check_ablation(config_dir: Path, config: GLAMConfig) -> None:
    """Raise UsageError for an option that undoes what the ablation says: the run would have the wrong name."""
    options = OmegaConf.structured(config)
    ablation: Any = OmegaConf.load(config_dir / "ablation" / f"{config.ablation}.yaml")
    said = {name: OmegaConf.select(ablation, name) for name in option_names(ablation) if name != "defaults"}
    for choice in ablation.get("defaults", ()):
        said["world_model.dynamics.name"] = choice["override /dynamics"]
    for name, wanted in said.items():
        value = OmegaConf.select(options, name)
        if getattr(value, "value", value) != wanted:
            raise UsageError(
                f"ablation={config.ablation} means {name}={wanted}, the options say {getattr(value, 'value', value)}: "
                "leave one of them out"
            )


def _explain(error: BaseException, schema: type[Any]) -> str:
    """What came, what was wanted and what to do, in one line."""
    text = one_line(error)
    if unknown := re.match(r"Could not override '([^']+)'", text):
        if ".kwargs." in unknown[1]:
            return f"{unknown[1]} is not there yet: write +{unknown[1]}=..."
        if unknown[1] in schema.__dataclass_fields__:  # a group of the other commands' files
            return f"{unknown[1]} cannot be chosen for this command: leave it out"
        part = getattr(error.__cause__, "parent_node", None)
        return unknown_option(unknown[1], schema, "options are listed in torchrl_glam/config", part)
    if launcher := re.search(r"Could not find 'hydra/launcher/(joblib|ray|submitit)", text):
        return f'{GROUP}={launcher[1]} needs a package that is missing: pip install "torchrl_glam[{launcher[1]}]"'
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
