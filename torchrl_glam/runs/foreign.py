"""Read files that somebody else may have written: regular ones, of bounded size and depth, and never through a link.

What they name is checked elsewhere: values in :mod:`torchrl_glam.runs.reading`, import paths in
:mod:`torchrl_glam.config.trust`. No error names the file: whoever reads it does.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torchrl_glam.errors import UNPRINTABLE, UsageError, one_line

JSON_BYTES, YAML_BYTES = 1 << 25, 1 << 18
DEPTH = 32  # of nesting; files of this package have 8 at most
SCALAR = 3000  # characters of a value in YAML. A whole number of as many hexadecimal digits can still be printed
BINARY = getattr(os, "O_BINARY", 0)
GUARDS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe is opened, and refused, at once
HALVES = re.compile("[\ud800-\udfff]")


def check_regular(path: Path) -> None:
    """Raise UsageError unless the path is a regular file and no link; for files that a library opens."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error
    _check_mode(mode)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        UsageError: if it cannot be read, is a link or of another kind, or holds more than ``most`` bytes.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | BINARY | GUARDS), "rb") as file:
            _check_mode(os.fstat(file.fileno()).st_mode)
            data = file.read(most + 1)
    except OSError as error:
        link = error.errno == errno.ELOOP
        raise UsageError("it is a link, and no regular file" if link else error.strerror or str(error)) from error
    if len(data) > most:
        raise UsageError(f"it holds more than {most:,} bytes")
    return data


def read_text(path: Path, most: int = JSON_BYTES) -> str:
    """Return the text of a regular file in UTF-8; errors as of :func:`read_bytes`, or for other bytes."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"damaged, {one_line(error)}") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; errors as of :func:`read_text` and :func:`parse_json`."""
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Return the content of a JSON text.

    Raises:
        UsageError: if it is not JSON, is nested too deeply, or holds a text that cannot be written again.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"damaged, {one_line(error)}") from error
    for depth, value in _walk(content):
        if depth > DEPTH:
            raise UsageError(f"damaged, it is nested more than {DEPTH} deep")
        if isinstance(value, str) and HALVES.search(value):
            raise UsageError(f"damaged, {value[:80]!a} is no text")
    return content


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file as OmegaConf reads it, as plain dictionaries and lists.

    Raises:
        UsageError: if it cannot be read, is not YAML, is nested too deeply, or holds an alias, an interpolation or a
            control character.
    """
    text = read_text(path, YAML_BYTES)
    try:
        _check_yaml(text)
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError, AttributeError) as error:
        raise UsageError(one_line(error)[:300]) from error


def _check_yaml(text: str) -> None:
    """Raise UsageError for what a small file of options never holds, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"it has the alias *{event.anchor}: write the value itself")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise UsageError(f"it is nested more than {DEPTH} deep")
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > SCALAR:
                raise UsageError(f"{event.value[:40]!a}... has more than {SCALAR} characters")
            if "${" in event.value:
                raise UsageError(f"{event.value[:80]!a} is an interpolation, which is not resolved: write the value")
            if UNPRINTABLE.search(event.value):
                raise UsageError(f"{event.value[:80]!a} has control characters")


def _walk(content: Any) -> Iterator[tuple[int, Any]]:
    """Yield everything in nested lists and dictionaries with its depth, keys too; without recursion."""
    waiting = [(0, content)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if isinstance(value, dict):
            waiting += [(depth + 1, part) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(depth + 1, part) for part in value]


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UsageError(f"it is {kind}, and no regular file")
