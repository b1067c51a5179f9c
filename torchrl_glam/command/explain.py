"""Errors that a user can cause, each in one line that says what came, what was wanted and what to do."""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from torchrl_glam.config import GROUPS
from torchrl_glam.config.flat import option_names, unknown_option
from torchrl_glam.config.registry import PARTS
from torchrl_glam.errors import UsageError, first_line, one_line

SHORT_ERRORS = (UsageError, HydraException, OmegaConfBaseException, FloatingPointError)
GROUP = "study"
LONGEST, LONGEST_WORD = 1000, 300  # characters of an error; a path has fewer than that
PACKAGE = "small"  # of the options of a small tool, whose names may be those of groups: `model`, `env`


@contextlib.contextmanager
def one_line_errors(schema: type[Any]) -> Iterator[None]:
    """End the process with one line on stderr for an error that a user can cause.

    The exit status is 2, or 1 for a number that is not finite and for Ctrl-C. Any other error is a bug, and keeps its
    traceback.

    Args:
        schema: the dataclass of the options, for near matches.
    """
    try:
        yield
    except SHORT_ERRORS as error:
        sys.stderr.write(f"error: {explain(error, schema)}\n")
        sys.exit(exit_status(error))
    except KeyboardInterrupt:
        sys.exit("interrupted")


@contextlib.contextmanager
def reading_options(reading: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise by accident over a bad value, such as a TypeError, into a UsageError.

    Args:
        reading: returns False once the options are read; from then on an error is a bug of the run.
    """
    try:
        yield
    except SHORT_ERRORS:
        raise
    except Exception as error:
        if not reading():
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(f"the options cannot be read ({reason}): leave out what was given last") from error


def exit_status(error: BaseException) -> int:
    """Return the exit status of a command that ends with this error."""
    return 1 if isinstance(error, FloatingPointError) else 2


def explain(error: BaseException, schema: type[Any]) -> str:
    """Return an error in one line of ours, where Hydra's and OmegaConf's are longer, and what was given is cut."""
    return shorten(_explain(error, schema))


def shorten(text: str) -> str:
    """Return text of which the middle of each long word, and what is beyond ``LONGEST`` characters, is cut.

    Examples:
        >>> from torchrl_glam.command.explain import shorten
        >>> shorten(f"seed={'9' * 5000}: give a whole number")
        'seed=99999999999999999999999999999999999...999999999999999999999999999999999999999: give a whole number'
    """
    words = (word if len(word) <= LONGEST_WORD else f"{word[:40]}...{word[-40:]}" for word in text.split(" "))
    whole = " ".join(words)
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 3]}..."


def _explain(error: BaseException, schema: type[Any]) -> str:
    text = one_line(error)
    if isinstance(error, UsageError):
        return text
    if lacking := _explain_part(error, text):
        return lacking
    if unknown := re.match(r"Could not override '([^']+)'", text):
        if ".kwargs." in unknown[1]:
            return f"{unknown[1]} is not there yet: write +{unknown[1]}=..."
        if unknown[1] in schema.__dataclass_fields__:  # a group of the other commands' files
            return f"{unknown[1]} cannot be chosen for this command: leave it out"
        return unknown_option(unknown[1], schema, "options are listed in torchrl_glam/config")
    if launcher := re.search(r"Could not find 'hydra/launcher/(joblib|ray|submitit)", text):
        return f'{GROUP}={launcher[1]} needs a package that is missing: pip install "torchrl_glam[{launcher[1]}]"'
    if missing := re.search(
        r"Could not find '([^']+)/([^']+)' Available options in '[^']+': (.+?)(?: Config |$)", text
    ):
        own = ", or give package.module.Class" if missing[1] in GROUPS else ""
        parts = {name for group, name in PARTS if group == missing[1]}  # for others' Hydra files, in the same groups
        names = ", ".join(name for name in missing[3].split() if name not in parts)
        return f"{missing[1]}={missing[2]} does not exist: choose one of {names}{own}"
    if absent := re.search(r"missing mandatory value: (\S+)", text):
        return f"give {absent[1]}=..."
    if merging := re.match(rf"Error merging override (?:{PACKAGE}\.)?([^=]+)=(?:'(.*)'|(.*))$", text):
        cause = error.__cause__ or error.__context__
        value = merging[3] if merging[2] is None else merging[2]
        reason = first_line(cause).replace(f"'{PACKAGE}.", "'") if cause else "not a valid value"
        if reason.startswith("Cannot merge DictConfig with"):
            reason = "give names and values, {NAME: VALUE}"
        return f"{merging[1]}={value}: {reason}"
    return text


def _explain_part(error: BaseException, text: str) -> str | None:
    """Return a line that lists the options of a part, if it was given one that it does not have."""
    cause: Any = error.__cause__ or error.__context__
    name, node = str(getattr(cause, "full_key", "")), getattr(cause, "parent_node", None)
    lacking = isinstance(cause, ConfigAttributeError | ConfigKeyError)
    if not lacking or not isinstance(node, DictConfig) or "_target_" not in node:
        return None
    place, _, last = name.rpartition(".")
    groups = {group.place: f"{option}={group.name_of(node)}" for option, group in GROUPS.items()}
    part, known = groups.get(place, place), [option for option in option_names(node) if option != "name"]
    has = f"{part} has {', '.join(known) or 'none'}"
    if file := re.match(r"In '(\w+)/(\w+)'", text):
        return f"{file[1]}={file[2]} sets {name}, but {has}"
    near = "".join(f"did you mean {place}.{match}? " for match in difflib.get_close_matches(last, known, n=1))
    return f"there is no option {name}: {near}{has}"
