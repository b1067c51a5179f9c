"""Errors that users can cause and mend, and checks that raise them: one line each."""

from __future__ import annotations

import os
import pkgutil
import re
import traceback
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIBRARIES = ("importlib", "tensordict", "torch", "torchrl", "torchrl_glam")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of characters


class UsageError(ValueError):
    """Bad input: one line that says what came, what was wanted and what to do.

    The command line prints the message without a traceback and exits with status 2. Library users can catch it as a
    ``ValueError``.
    """


class DamagedError(Exception):
    """A file that is missing, cut, changed or of another kind: one line that says which and how."""


class Stopped(Exception):
    """An early, orderly end of the command, with exit status 0.

    Args:
        line: says why it ends and how to continue.
        asked: a signal asked for it, so that a sweep ends too.
    """

    def __init__(self, line: str, *, asked: bool = False) -> None:
        super().__init__(line)
        self.asked = asked


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0]


def one_line(value: object) -> str:
    """Return a value as text in which line breaks and runs of spaces are single spaces."""
    return " ".join(str(value).split())


def describe_error(error: Exception) -> str:
    """Return an error of a user's class in one line, with the place in the user's code that raised it, if any."""
    specs = [spec for spec in map(find_spec, LIBRARIES) if spec is not None and spec.origin is not None]
    not_theirs = ("<frozen ", pkgutil.__file__, *(os.path.dirname(str(spec.origin)) + os.sep for spec in specs))
    reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(not_theirs)]
    return f"{reason} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else reason


def check_least(options: Any, least: Mapping[str, int]) -> None:
    """Refuse whole numbers that are too small.

    Args:
        options: an object with attributes of these names; one that is ``None`` is not checked.
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
        UsageError: if the file cannot be written.
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
