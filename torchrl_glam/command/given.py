"""What is given on a command line, looked at before Hydra composes it: flags, empty values, choices of a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from torchrl_glam.config import GROUPS
from torchrl_glam.config.registry import PARTS
from torchrl_glam.errors import UsageError, first_line

YAML = (".yaml", ".yml")
FOREIGN = ("--shell-completion", "--config-path")  # of Hydra's, and not of use: the files are this command's own
LONGEST_NAME = 200  # characters; a file system has no longer ones


def check_given(arguments: list[str], config_dir: Path) -> None:
    """Raise UsageError for arguments that Hydra would answer with a traceback or a page of its own, or misread.

    Args:
        arguments: of the command.
        config_dir: folder of its yaml files.

    Raises:
        UsageError: for an unknown flag, what Hydra cannot read, an empty value, an option that is deleted, or a group's
            choice that is no name.
    """
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    parsed, overrides = parser.parse_known_args(arguments)
    given = [*parsed.overrides, *overrides]
    if stray := [argument for argument in overrides if argument.startswith("-")]:
        _refuse_flag(f"unrecognized arguments: {' '.join(stray)}")
    if overrides:
        flags = [argument for argument in arguments if argument not in given]
        raise UsageError(f"flags go before all options: {' '.join([*flags, *given])}")
    for flag in FOREIGN:
        if getattr(parsed, flag[2:].replace("-", "_")):
            raise UsageError(f"{flag} is no flag of this command: --help lists the flags")
    for argument in given:
        name, equals, value = argument.partition("=")
        if not name.lstrip("+~") or not (equals or name.startswith("~")):
            raise UsageError(f"{argument or repr('')}: options are written key=value")
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            reason = f"{argument} cannot be read ({first_line(error)})"
            raise UsageError(f"""{reason}: quote a value with special characters, {name}="'{value}'\"""") from error
        _check_override(override, argument, config_dir)


def group_choices(config_dir: Path, name: str) -> list[str]:
    """Return the names to choose from in a group of options; none if there is no such group."""
    if len(name) > LONGEST_NAME:
        return []
    stored: Any = ConfigStore.instance().repo
    for folder in name.split("/"):
        stored = stored.get(folder, {}) if isinstance(stored, dict) else {}
    files = [path.stem for path in (config_dir / name).glob("*.yaml")]
    theirs = {part for group, part in PARTS if group == name}  # for others' Hydra files, in the same groups
    # TorchRL's configs, once imported, have groups of the same names.
    own = [choice for choice, node in stored.items() if getattr(node, "provider", "") == "torchrl_glam"]
    nodes = [Path(choice).stem for choice in own if "." not in Path(choice).stem]
    return sorted({*files, *nodes} - theirs)


def _refuse_flag(message: str) -> NoReturn:
    raise UsageError(f"{message}: options are written key=value; --help lists the flags")


def _check_override(override: Override, argument: str, config_dir: Path) -> None:
    name, deleted = override.key_or_group, override.is_delete()
    choices = [] if name == "hydra" else group_choices(config_dir, name)
    if deleted and not name.startswith("hydra.") and ".kwargs." not in name:
        raise UsageError(f"{argument} would delete {name}, and a run needs all of its options: leave it out")
    if choices and override.is_add():
        plain = argument.lstrip("+")
        raise UsageError(f"{argument} would choose a second {name}: write {plain}, without the +")
    if not choices and not deleted and _has_glob(override.value()):
        raise UsageError(f"{argument}: glob is for env.name and for groups of options: give the values")
    for value in () if deleted else _values(override):
        if value == "???":
            raise UsageError(f"{argument} is no value: give one, or leave it out")
        if isinstance(value, str) and not value.strip():
            one_of = f" one of {', '.join(choices)}" if choices else " a value"
            raise UsageError(f"{argument} is empty: give{one_of}, or leave it out")
        is_group = choices or name.split("/")[0] in ("hydra", *ConfigStore.instance().repo)
        if is_group and not (isinstance(value, str) and _is_name(value)):
            raise UsageError(f"{argument}: {_advise(name, choices)}")


def _has_glob(value: Any) -> bool:
    return isinstance(value, Glob) or (isinstance(value, list) and any(map(_has_glob, value)))


def _is_name(choice: str) -> bool:
    """Return False for the path of a file, which Hydra would take as well."""
    outside = ".." in choice.split("/") or choice.startswith("/")
    return not outside and not choice.endswith(YAML) and len(choice) <= LONGEST_NAME


def _values(override: Override) -> Iterator[Any]:
    """Yield the value of an option, or each of those that it is swept over."""
    if isinstance(override.value(), Glob):
        return
    if override.is_sweep_override():
        plain = OverridesParser.create()
        for text in override.sweep_string_iterator():
            yield plain.parse_override(f"x={text}").value()
    else:
        yield override.value()


def _advise(name: str, choices: list[str]) -> str:
    if not choices:
        return f"{name} is a group of options: give those below it, {name}.NAME=..."
    own = ", or give package.module.Class" if name in GROUPS else ""
    return f"choose one of {', '.join(choices)}{own}"
