"""The command line of runs: Hydra, with bad input answered in one line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from torchrl_glam.command.arguments import expand_arguments, study_arguments
from torchrl_glam.command.explain import GROUP, one_line_errors, reading_options
from torchrl_glam.command.given import check_given
from torchrl_glam.command.help import help_page
from torchrl_glam.command.study.launch import run_study
from torchrl_glam.command.study.plan import NAME, name_run, task_overrides
from torchrl_glam.config import Device, GLAMConfig, RunConfig
from torchrl_glam.config.checks import check_config, check_names
from torchrl_glam.config.presets import check_ablation, check_places, resolve_auto
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.machine.allocator import keep_freed_memory
from torchrl_glam.machine.compilation import check_compiler
from torchrl_glam.machine.terminal import optional_output
from torchrl_glam.runs.initial import read_initial

Config = TypeVar("Config")
Decorator = Callable[[Callable[[Config], None]], Callable[[], None]]


def command_line(config_dir: Path, config_name: str) -> Decorator[GLAMConfig]:
    """Make the :func:`hydra_command` of a GLAM run, which refuses options that do not go together.

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
    """
    return hydra_command(config_dir, config_name, GLAMConfig, functools.partial(_prepare, config_dir))


def hydra_command(
    config_dir: Path, config_name: str, schema: type[Config], prepare: Callable[[Config, list[str]], None]
) -> Decorator[Config]:
    """Turn ``main(config)`` into a command that reads ``key=value`` options with Hydra.

    Errors are those of :func:`~torchrl_glam.command.explain.one_line_errors`. With ``-m``, a command that has a group
    ``study`` among its defaults runs a study (:mod:`torchrl_glam.command.study`).

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
        schema: the dataclass of the options.
        prepare: is called before ``main`` with the options and the names of those given.
    """

    def decorate(main: Callable[[Config], None]) -> Callable[[], None]:
        command = Command(config_dir, config_name, schema, prepare, main)

        composed = False

        @functools.wraps(main)
        def job(options: DictConfig) -> None:
            nonlocal composed
            composed = True
            with one_line_errors(schema):  # here, because hydra 1.3 announces an exception that leaves a job
                try:
                    _check_launcher()
                    command.run(options)
                except Stopped as stopped:
                    sys.stdout.write(f"{stopped}\n")
                    if stopped.asked:
                        sys.exit(0)

        @functools.wraps(main)
        def decorated() -> None:
            nonlocal composed
            composed = False
            os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra 1.3 otherwise prints its own many lines and exits
            sys.path.append(os.getcwd())  # for the user's modules
            with optional_output(), one_line_errors(schema), reading_options(lambda: not composed):
                if {"-h", "--help"} & set(sys.argv[1:]):
                    sys.stdout.write(help_page(config_dir, config_name, schema, main))
                    return
                arguments = sys.argv[1:] = expand_arguments(sys.argv[1:])
                overrides = study_arguments(arguments) if _has_studies(config_dir, config_name) else None
                check_given(arguments if overrides is None else overrides, config_dir)
                if overrides is not None:
                    composed = True
                    sys.exit(run_study(command, overrides))
                hydra.main(version_base="1.3", config_path=str(config_dir), config_name=config_name)(job)()

        return decorated

    return decorate


@dataclass(frozen=True)
class Command(Generic[Config]):
    """A command. It is pickled for a launcher's workers, so that it holds only plain values and functions.

    Args:
        config_dir: folder of the yaml files.
        config_name: the yaml file to start from, without its ending.
        schema: the dataclass of the options.
        prepare: is called before ``main`` with the options and the names of those given.
        main: runs it, and raises what goes wrong.
    """

    config_dir: Path
    config_name: str
    schema: type[Config]
    prepare: Callable[[Config, list[str]], None]
    main: Callable[[Config], None]

    def read(self, options: DictConfig, given: list[str]) -> Config:
        """Return the options that Hydra composed as a checked dataclass.

        ``preset=auto`` is resolved here, because it depends on machine and environment.

        Args:
            options: of one run.
            given: those of its command line, ``name=value``.
        """
        if options.get("preset") == "auto":
            env, on_gpu = options.env, resolve_device(options.device).type == "cuda"
            preset = resolve_auto(on_gpu, env.name, env.observation, env.pixels_key)
            kept = [override for override in given if not override.startswith("preset=")]
            options = hydra.compose(self.config_name, overrides=[*kept, f"preset={preset}"])
        config: Any = OmegaConf.to_object(options)
        if not isinstance(config, self.schema):
            raise TypeError(f"{self.config_name} composes {type(config).__name__}, not {self.schema.__name__}")
        check_names(config)
        if NAME in (run_dir := getattr(config, "run_dir", "")):
            schema: Any = self.schema
            config.run_dir = run_dir.replace(NAME, name_run(given, options, schema))  # type: ignore[attr-defined]
        self.prepare(config, [override.lstrip("+~").split("=")[0] for override in given])
        return config

    def run(self, options: DictConfig) -> None:
        """Run once, in the process in which Hydra calls its job."""
        config = self.read(options, task_overrides(HydraConfig.get()))
        if find_spec("stable_baselines3") is not None:
            # torchrl (0.14.1) imports it with the first environment, and its rich draws from Python's random numbers:
            # before the run seeds them, so that a process's first run is like its later ones.
            import_module("stable_baselines3")
        if isinstance(config, RunConfig) and config.threads is not None:
            torch.set_num_threads(config.threads)  # torch lets those between operations be set only once
        self.main(config)


def resolve_device(device: Device) -> torch.device:
    """Return the torch device that ``device=auto|cpu|cuda`` means here.

    Raises:
        UsageError: if CUDA is asked for where there is none.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise UsageError("device=cuda, but torch finds no CUDA device: use device=cpu or a CUDA build of torch")
    if device is Device.auto:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device.value)


def _has_studies(config_dir: Path, config_name: str) -> bool:
    primary: Any = OmegaConf.load(config_dir / f"{config_name}.yaml")
    return any(OmegaConf.is_dict(choice) and GROUP in choice for choice in primary.get("defaults", ()))


def _check_launcher() -> None:
    """Raise UsageError for a launcher of a sweep where there is no sweep."""
    group = HydraConfig.get().runtime.choices.get(GROUP, "none")
    if group != "none" and HydraConfig.get().mode is RunMode.RUN:
        raise UsageError(f"{GROUP}={group} launches the runs of a sweep: add -m, also for a single one")


def _prepare(config_dir: Path, config: GLAMConfig, given: list[str]) -> None:
    check_places(given)
    check_ablation(config_dir, config)
    check_config(config)
    read_initial(config)  # here only to refuse it before anything is built
    if config.training.compile:
        check_compiler("training.compile=true", resolve_device(config.device))
    if config.training.keep_memory:
        keep_freed_memory()
