"""Check values of files that somebody else may have written: each of the right type and size, or a one-line error."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import MISSING, Field
from typing import Any

from torchrl_glam.errors import UNPRINTABLE, UsageError

LARGEST = 1e100  # of a number: its square is still finite, and the sum of many
NO_NAME = re.compile(r"^[=+@\t-]|[<>|\[\]`$\\]")  # a spreadsheet's formula; marks of HTML, Markdown and TeX
LONGEST = 200  # characters of a name


def want(condition: bool, complaint: str) -> None:
    """Raise a UsageError with the text ``complaint`` unless the condition holds."""
    if not condition:
        raise UsageError(complaint)


def number(name: str, value: Any) -> float:
    """Return a finite number of at most 1e100 in size.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, int | float), f"{name} is {_shorten(value)} and not a number")
    want(not isinstance(value, bool), f"{name} is {value!r} and not a number")
    want(not isinstance(value, float) or math.isfinite(value), f"{name} is {value} and not finite")
    want(abs(value) <= LARGEST, f"{name} is damaged: too large a number")  # JSON's integers have no limit
    return float(value)


def whole_number(name: str, value: Any) -> int:
    """Return an integer of 64 bits.

    Raises:
        UsageError: for anything else.
    """
    want(abs(number(name, value)) < 2**63, f"{name} is damaged: too large a number")
    want(value == int(value), f"{name} is {value!r} and not a whole number")
    return int(value)


def text(name: str, value: Any) -> str:
    """Return a name: a string without control characters, and without what HTML, Markdown or a spreadsheet acts on.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, str), f"{name} is {_shorten(value)} and not a text")
    good = len(value) <= LONGEST and not UNPRINTABLE.search(value) and not NO_NAME.search(value)
    want(good, f"{name} is {_shorten(value)} and not a name")
    return str(value)


def truth(name: str, value: Any) -> bool:
    """Return True or False.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, bool), f"{name} is {_shorten(value)}, neither true nor false")
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


def _shorten(value: Any) -> str:
    """Return the beginning of a value as the code of a text; the value may be of any size."""
    return ascii(value[:80] if isinstance(value, str) else value)[:82]
