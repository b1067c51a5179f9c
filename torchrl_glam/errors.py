"""The one error that a user can cause and mend, and those of the user's own code in one line."""

from __future__ import annotations

import os
import pkgutil
import traceback
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("importlib", "tensordict", "torch", "torchrl", "torchrl_glam")


class UsageError(ValueError):
    """Bad input: one line that says what came, what was wanted and what to do.

    The command line prints the message without a traceback and exits with status 2; library users can catch it as a
    ``ValueError``.
    """


def one_line(value: object) -> str:
    """What ``str`` makes of a value, its line breaks and runs of spaces as single spaces."""
    return " ".join(str(value).split())


def describe_error(error: Exception) -> str:
    """What somebody's class raised, in one line, and their line that it came from, if there is one."""
    specs = [spec for spec in map(find_spec, LIBRARIES) if spec is not None and spec.origin is not None]
    not_theirs = ("<frozen ", pkgutil.__file__, *(os.path.dirname(str(spec.origin)) + os.sep for spec in specs))
    reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(not_theirs)]
    return f"{reason} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else reason


class Stopped(Exception):
    """The command ends early and in order: one line that says why and how to go on; exit status 0.

    Args:
        line: for the user.
        asked: a signal asked for it, so that a sweep ends too.
    """

    def __init__(self, line: str, *, asked: bool = False) -> None:
        super().__init__(line)
        self.asked = asked


class DamagedError(Exception):
    """A file is missing, cut, changed or of another kind: one line that says which and how."""


def check_least(options: Any, least: Mapping[str, int]) -> None:
    """Refuse whole numbers that are too small.

    Args:
        options: an object with attributes of these names; ``None`` is left to who reads it.
        least: the smallest value of each.

    Raises:
        UsageError: for the first one below.
    """
    for name, smallest in least.items():
        if (value := getattr(options, name)) is not None and value < smallest:
            raise UsageError(f"{name}={value}: give a whole number of at least {smallest}")


def make_writable(option: str, path: Path) -> Path:
    """Make the folder of an output file, before anything is computed for it, and return the file's path.

    Raises:
        UsageError: if there can be no such file.
    """
    reason = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or first_line(error)
    if path.is_dir():
        reason = "it is a folder"
    elif reason is None and not os.access(path if path.exists() else path.parent, os.W_OK):
        reason = "permission denied"
    if reason is not None:
        raise UsageError(f"{option}={path} cannot be written ({reason}): choose another file")
    return path


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return str(error).strip().splitlines()[0]
