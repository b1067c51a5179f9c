"""Values out of JSON files that somebody else may have written: each of the kind it should be, or one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torchrl_glam.errors import UsageError, one_line


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UsageError: if it cannot be read or is no JSON, in a line that does not name the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8
        raise UsageError(f"damaged, {one_line(error)}") from error


def want(condition: bool, complaint: str) -> None:
    """Raise a UsageError of ``complaint`` unless the condition holds."""
    if not condition:
        raise UsageError(complaint)


def number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, int | float), f"{name} is {value!r} and not a number")
    want(not isinstance(value, bool), f"{name} is {value!r} and not a number")
    try:
        want(math.isfinite(value), f"{name} is {value} and not finite")
    except OverflowError as error:  # JSON's whole numbers know no end
        raise UsageError(f"{name} is damaged: too large a number") from error
    return float(value)


def whole_number(name: str, value: Any) -> int:
    """A whole number.

    Raises:
        UsageError: for anything else.
    """
    want(number(name, value) == int(value), f"{name} is {value!r} and not a whole number")
    return int(value)


def text(name: str, value: Any) -> str:
    """A text.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, str), f"{name} is {value!r} and not a text")
    return str(value)


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """A list of finite numbers, one at least.

    Raises:
        UsageError: for anything else.
    """
    want(isinstance(value, list), f"{name} are not a list")
    want(value, f"there are no {name}")
    return tuple(number(name, entry) for entry in value)
