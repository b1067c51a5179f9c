"""Read values from JSON files that somebody else may have written: each of the right type, or a one-line error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from torchrl_glam.errors import UsageError, one_line


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UsageError: if it cannot be read or is not JSON. The line does not name the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8
        raise UsageError(f"damaged, {one_line(error)}") from error


def want(condition: bool, complaint: str) -> None:
    """Raise a UsageError with the text ``complaint`` unless the condition holds."""
    if not condition:
        raise UsageError(complaint)


def number(name: str, value: Any) -> float:
    """Return a finite number.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, int | float), f"{name} is {value!r} and not a number")
    want(not isinstance(value, bool), f"{name} is {value!r} and not a number")
    try:
        want(math.isfinite(value), f"{name} is {value} and not finite")
    except OverflowError as error:  # JSON's integers have no limit
        raise UsageError(f"{name} is damaged: too large a number") from error
    return float(value)


def whole_number(name: str, value: Any) -> int:
    """Return an integer.

    Raises:
        UsageError: for anything else.
    """
    want(number(name, value) == int(value), f"{name} is {value!r} and not a whole number")
    return int(value)


def text(name: str, value: Any) -> str:
    """Return a string.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, str), f"{name} is {value!r} and not a text")
    return str(value)


def truth(name: str, value: Any) -> bool:
    """Return True or False.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, bool), f"{name} is {value!r}, neither true nor false")
    return bool(value)


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Return a list of finite numbers as a tuple, at least one.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, list), f"{name} are not a list")
    want(value, f"there are no {name}")
    return tuple(number(name, entry) for entry in value)


KINDS = {"bool": truth, "float": number, "int": whole_number, "str": text, "tuple[float, ...]": numbers}


def field_values(fields: Iterable[Field[Any]], content: dict[str, Any]) -> dict[str, Any]:
    """Return the value of each dataclass field, checked against its annotation.

    The annotation is a text: one of ``bool``, ``float``, ``int``, ``str``, ``tuple[float, ...]``, or one of these and
    ``| None``. A field with a default may be missing from ``content`` and is then missing from the result.

    Raises:
        UsageError: if a value is missing or of another type.
    """
    found: dict[str, Any] = {}
    for field in fields:
        kind, _, none = str(field.type).partition(" | ")
        if field.name not in content:
            want(field.default is not MISSING, f"it has no {field.name}")
        elif content[field.name] is None and none:
            found[field.name] = None
        else:
            found[field.name] = KINDS[kind](field.name, content[field.name])
    return found
