"""The command line of the small tools: ``key=value`` options of one dataclass, bad input answered in one line."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torchrl_glam.errors import UsageError, first_line

Options = TypeVar("Options")


def option_line(schema: type[Options]) -> Callable[[Callable[[Options], None]], Callable[[], None]]:
    """Turn ``main(options)`` into a command that reads ``key=value`` options; ``--help`` lists them.

    A :class:`~torchrl_glam.errors.UsageError`, an unknown option, a missing one or a value of the wrong type prints one
    line to stderr and exits with status 2, a number that is not finite with status 1. Any other error is a bug, with
    its traceback.

    Args:
        schema: a dataclass of numbers, texts, bools and enums. A field without a default must be given; the comment on
            a field's line is its help.
    """

    def decorate(main: Callable[[Options], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def command() -> None:
            sys.path.append(os.getcwd())  # for modules of the user's
            try:
                if {"--help", "-h"} & set(sys.argv[1:]):
                    sys.stdout.write(_help(schema, main))
                else:
                    main(parse_options(schema, sys.argv[1:]))
            except (UsageError, FloatingPointError) as error:
                sys.exit(fail(error, str(error)))
            except KeyboardInterrupt:
                sys.exit("interrupted")

        return command

    return decorate


def parse_options(schema: type[Options], arguments: list[str]) -> Options:
    """Make the dataclass of ``key=value`` arguments; of one that comes twice the last counts.

    Raises:
        UsageError: for an option that does not exist or has no value, a value of the wrong type, a missing option.

    Examples:
        >>> from dataclasses import dataclass
        >>> from torchrl_glam.command.options import parse_options
        >>> @dataclass
        ... class WalkOptions:
        ...     folder: str
        ...     steps: int = 64
        >>> parse_options(WalkOptions, ["folder=runs/007", "steps=8"])
        WalkOptions(folder='runs/007', steps=8)
    """
    options = OmegaConf.structured(schema)
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or name.startswith("-"):
            raise UsageError(f"{argument}: options are written key=value; --help lists them")
        if name not in options.keys():  # noqa: SIM118 (`in options` is False for a missing value)
            raise UsageError(unknown_option(name, schema, "--help lists them"))
        try:  # not by OmegaConf.from_cli, whose YAML turns the folder 007 into 7
            options[name] = None if text == "null" else text
            OmegaConf.select(options, name, throw_on_missing=True)  # whatever ${...} there is
        except OmegaConfBaseException as error:
            raise UsageError(f"{argument}: {first_line(error)}") from error
    if missing := OmegaConf.missing_keys(options):
        wanted = [f"{field.name}=..." for field in fields(schema) if field.name in missing]  # type: ignore[arg-type]
        raise UsageError(f"give {' '.join(wanted)}; --help lists the options")
    made: Any = OmegaConf.to_object(options)
    return made


def fail(error: Exception, line: str) -> int:
    """Print one line to stderr and return the exit status."""
    sys.stderr.write(f"error: {line}\n")
    return 1 if isinstance(error, FloatingPointError) else 2


def unknown_option(name: str, schema: type[Any], listing: str, part: Any = None) -> str:
    """Return a line on an option that does not exist, with near matches, or where its options are listed.

    Args:
        name: of the option.
        schema: the dataclass of all options.
        listing: names what lists them.
        part: the node that lacks the option, if it is known; that of a group's choice lists what there is.
    """
    group, _, last = name.rpartition(".")
    if group and isinstance(part, DictConfig) and part._get_full_key(None) == group:
        known = [option for option in option_names(part) if not option.startswith("_")]
        matches = [f"{group}.{option}" for option in difflib.get_close_matches(last, known, n=3)]
        listing = f"{group} has {', '.join(known)}"
    else:
        known = list(option_names(OmegaConf.structured(schema)))
        matches = difflib.get_close_matches(name, known, n=3)
        matches = matches or [option for option in known if option.split(".")[-1] == last][:3]
    advice = f"did you mean {' or '.join(matches)}?" if matches else listing
    return f"there is no option {name}: {advice}"


def option_names(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The names of all options, ``group.option`` where they are nested."""
    for key in map(str, node):
        child = node._get_node(key)
        if isinstance(child, DictConfig):
            yield from option_names(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _help(schema: type[Any], main: Callable[..., None]) -> str:
    """What the command does, and a line for each option with its default and its comment."""
    comments: dict[str, str] = {}
    for part in reversed(schema.__mro__[:-1]):
        comments |= dict(re.findall(r"^    (\w+):.*?  # (.*)$", inspect.getsource(part), re.MULTILINE))
    defaults = OmegaConf.structured(schema)
    shown = {str(name): _show(str(name), defaults) for name in defaults}
    width = max(map(len, shown.values())) + 2
    listing = "\n".join(f"  {line:{width}}{comments.get(name, '')}".rstrip() for name, line in shown.items())
    return f"{inspect.getdoc(main)}\n\n{Path(sys.argv[0]).name} key=value ...\n{listing}\n"


def _show(name: str, defaults: DictConfig) -> str:
    """An option with its default and its choices."""
    if OmegaConf.is_missing(defaults, name):
        return f"{name}=... (wanted)"
    value: Any = defaults[name]
    if isinstance(value, Enum):
        return f"{name}={value.name} ({'|'.join(member.name for member in type(value))})"
    return f"{name}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"
