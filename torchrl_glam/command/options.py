"""The command line of the small tools: Hydra on one dataclass, without files."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from torchrl_glam.command.explain import PACKAGE, one_line_errors
from torchrl_glam.config.flat import unknown_option
from torchrl_glam.config.quoting import quote_override
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.terminal import optional_output

Options = TypeVar("Options")


def small_command(schema: type[Options]) -> Callable[[Callable[[Options], None]], Callable[[], None]]:
    """Turn ``main(options)`` into a command that reads ``key=value`` options with Hydra; ``--help`` lists them.

    Values are taken as they are, without Hydra's grammar: ``run_dir=runs/007`` needs no quotes. Errors are those of
    :func:`~torchrl_glam.command.explain.one_line_errors`.

    Args:
        schema: a dataclass of numbers, texts, bools and enums. A field without a default must be given; the comment on
            a field's line is its help.
    """

    def decorate(main: Callable[[Options], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def command() -> None:
            with optional_output(), one_line_errors(schema):
                if {"--help", "-h"} & set(sys.argv[1:]):
                    sys.stdout.write(_help(schema, main))
                    return
                options = read_arguments(schema, sys.argv[1:])
                if getattr(options, "trust", False):
                    sys.path.append(os.getcwd())  # for the user's modules
                main(options)

        return command

    return decorate


def read_arguments(schema: type[Options], arguments: list[str]) -> Options:
    """Make the dataclass of ``key=value`` arguments; the last one counts of an option that comes twice.

    Raises:
        UsageError: for an option that does not exist or has no value, a missing option, or ``${`` in a value.
        HydraException: for a value of the wrong type.

    Examples:
        >>> from dataclasses import dataclass
        >>> from torchrl_glam.command.options import read_arguments
        >>> @dataclass
        ... class WalkOptions:
        ...     folder: str
        ...     steps: int = 64
        >>> read_arguments(WalkOptions, ["folder=runs/007", "steps=8"])
        WalkOptions(folder='runs/007', steps=8)
    """
    overrides = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name.startswith("-"):
            raise UsageError(f"{argument}: options are written key=value; --help lists them")
        if name not in schema.__dataclass_fields__:  # type: ignore[attr-defined]
            raise UsageError(unknown_option(name, schema, "--help lists them"))
        if not value.strip():
            raise UsageError(f"{name}= is empty: give a value, or leave it out")
        if "${" in value:
            raise UsageError(f"{name}={value} holds ${{, and nothing is filled in here: write the value itself")
        path = f"{PACKAGE}.{name}"
        overrides.append(f"{path}=null" if value == "null" else quote_override(path, value))
    ConfigStore.instance().store(name=schema.__name__, node=schema, package=PACKAGE)
    with initialize(config_path=None, version_base="1.3"):
        options: Any = OmegaConf.merge(OmegaConf.structured(schema), compose(schema.__name__, overrides)[PACKAGE])
    missing = OmegaConf.missing_keys(options)
    if wanted := [f"{name}=..." for name in map(str, options) if name in missing]:
        raise UsageError(f"give {' '.join(wanted)}; --help lists the options")
    made: Any = OmegaConf.to_object(options)
    return made


def _help(schema: type[Any], main: Callable[..., None]) -> str:
    """Return the docstring of the command, and a line for each option with its default and its comment."""
    comments, defaults = field_comments(schema), OmegaConf.structured(schema)
    shown = {str(name): show_option(str(name), defaults) for name in defaults}
    width = max(map(len, shown.values())) + 2
    listing = "\n".join(f"  {line:{width}}{comments.get(name, '')}".rstrip() for name, line in shown.items())
    return f"{inspect.getdoc(main)}\n\n{Path(sys.argv[0]).name} key=value ...\n{listing}\n"


def field_comments(schema: type[Any]) -> dict[str, str]:
    """Return the comment on the line of each field of a dataclass, those of its bases too."""
    comments: dict[str, str] = {}
    for part in reversed(schema.__mro__[:-1]):
        comments |= dict(re.findall(r"^    (\w+):.*?  # (.*)$", inspect.getsource(part), re.MULTILINE))
    return comments


def show_option(name: str, defaults: DictConfig, prefix: str = "") -> str:
    """Return an option with its default and its choices; ``prefix`` stands before its name."""
    shown = f"{prefix}{name}"
    if OmegaConf.is_missing(defaults, name):
        return f"{shown}=... (wanted)"
    value: Any = defaults[name]
    if isinstance(value, Enum):
        return f"{shown}={value.name} ({'|'.join(member.name for member in type(value))})"
    return f"{shown}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"
