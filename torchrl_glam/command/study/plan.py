"""The runs of a study, and the folder of each: the same for the same options, and never that of another run."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from torchrl_glam.command.arguments import expand_arguments
from torchrl_glam.command.explain import GROUP, reading_options
from torchrl_glam.config import RunConfig
from torchrl_glam.config.quoting import quote_override
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.folder import is_harmless

NAME = "<name>"  # in a run_dir of configs/, the place of :func:`run_name`
LONGEST = 120  # characters of a folder's name; a longer one is cut, and gets a hash


@dataclass
class PlannedRun:
    """One run of a study.

    Attributes:
        label: its name in the study's lines: its folder within the study's.
        overrides: its options, ``run_dir`` among them.
        options: composed of them, without Hydra's own; None if they do not compose.
        error: the reason why not.
    """

    label: str
    overrides: list[str]
    options: DictConfig | None = None
    error: Exception | None = None


def plan_runs(study: DictConfig, loader: ConfigLoader, schema: type[RunConfig]) -> tuple[str, list[PlannedRun]]:
    """Return the study's folder and its runs, in the order of the options given, the last of them changing fastest.

    A run is in ``hydra.sweep.dir``, see :func:`run_name`. A ``run_dir`` that is given is kept, if it differs between
    runs.

    Args:
        study: the study's options as Hydra composes them, its own among them.
        loader: Hydra's.
        schema: the options of one run.

    Raises:
        UsageError: if two runs that differ would share a folder.
        HydraException: if the options cannot be read.
    """
    params = dict(study.hydra.sweeper.get("params") or {})  # a study written down as a file
    given = expand_arguments([f"{name}={value}" for name, value in params.items()]) + task_overrides(study.hydra)
    overrides = {each.key_or_group: each for each in OverridesParser.create(loader).parse_overrides(given)}
    swept = {name for name, override in overrides.items() if override.is_sweep_override()}
    runs: dict[str, PlannedRun] = {}
    for options in product(*map(_values, overrides.values())):
        named = dict(zip(overrides, options, strict=True))
        folder = os.path.join(study.hydra.sweep.dir, run_name(named, swept, study, schema))
        run = _compose({"run_dir": quote_override("run_dir", folder), **named}, study, loader)
        if run.label in runs and runs[run.label].overrides != run.overrides:
            raise UsageError(
                f"run_dir={run.label} is that of several runs: leave it out, or write what tells them apart into it, "
                "such as '${seed}'"
            )
        runs[run.label] = run
    top = study.hydra.sweep.dir if "run_dir" not in overrides else os.path.commonpath(map(os.path.dirname, runs)) or "."
    for run in runs.values():
        run.label = os.path.relpath(run.label, top)
    return top, list(runs.values())


def run_name(options: dict[str, str], swept: set[str], study: DictConfig, schema: type[RunConfig]) -> str:
    """Return the folder of a run within the study's.

    It is ``SUBJECT/seedN``, with ``name-value`` before ``seedN`` for each other option that is given and that either
    changes the numbers or is swept over. So ``total_frames`` may grow.

    Args:
        options: those given, ``name=value``, by their names.
        swept: names of those with several values in the study.
        study: as composed, for the options that are not given.
        schema: knows which options are harmless.
    """

    def value(name: str) -> str:
        return _value(options[name]) if name in options else str(OmegaConf.select(study, name))

    own = {schema.SUBJECT, "seed", "run_dir", GROUP}
    told = sorted(name for name in options if name not in own and (name in swept or not is_harmless(name, schema)))
    parts = "+".join(f"{name}-{value(name)}" for name in told)
    return os.path.join(_plain(value(schema.SUBJECT), "/"), f"{_plain(parts)}-seed{value('seed')}".lstrip("-"))


def name_run(given: list[str], options: DictConfig, schema: type[RunConfig]) -> str:
    """Return the :func:`run_name` of a run by itself, which also tells the preset.

    Args:
        given: its options, ``name=value``.
        options: as composed of them.
        schema: knows which options are harmless.
    """
    overrides = OverridesParser.create().parse_overrides(given)
    named = {str(each.key_or_group): each.input_line or "" for each in overrides}
    return run_name({**named, "preset": quote_override("preset", options.preset)}, set(), options, schema)


def task_overrides(hydra: Any) -> list[str]:
    """Return the options given, as they were written, without those of ``hydra``, whose node this is."""
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return overrides


def _values(override: Override) -> list[str]:
    """Return one option's values, each as an option of a run."""
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [override.input_line or ""]


def _value(option: str) -> str:
    return str(OverridesParser.create().parse_override(option).value())


def _plain(text: str, also: str = "") -> str:
    """Return text that shells and Hydra take as it is; with a hash of the whole where characters were lost."""
    plain = re.sub(rf"[^\w.:+@{also}-]+|\.\.+", "_", text)[:LONGEST]
    return plain if plain == text else f"{plain}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _compose(named: dict[str, str], study: DictConfig, loader: ConfigLoader) -> PlannedRun:
    """Compose the options of one run, as its launcher will."""
    overrides = list(named.values())
    try:
        with reading_options():
            options = loader.load_sweep_config(study, overrides)
        HydraConfig.instance().set_config(options)  # for ${hydra:...}
        run_dir = str(options.run_dir)
    except (HydraException, OmegaConfBaseException, UsageError) as error:
        return PlannedRun(_value(named["run_dir"]), overrides, error=error)
    with read_write(options), open_dict(options):
        del options["hydra"]
        options.run_dir = run_dir
    return PlannedRun(run_dir, list({**named, "run_dir": quote_override("run_dir", run_dir)}.values()), options)
