"""Options as plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def plain_options(options: Any) -> dict[str, Any]:
    """Return a dataclass of options as plain dictionaries, nested ones too; enums by their names."""
    plain: Any = OmegaConf.to_container(OmegaConf.structured(options), enum_to_str=True)
    return plain


def flatten_options(options: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by their dotted names; an empty group stays one.

    Examples:
        >>> from torchrl_glam.config.flat import flatten_options
        >>> flatten_options({"seed": 0, "objective": {"loss": "A2CLoss", "kwargs": {}}})
        {'seed': 0, 'objective.loss': 'A2CLoss', 'objective.kwargs': {}}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten_options(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
