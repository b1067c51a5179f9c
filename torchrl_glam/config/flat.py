"""Options as plain dictionaries, and their dotted names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf


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


def unknown_option(name: str, schema: type[Any], listing: str) -> str:
    """Return a line on an option that does not exist, with near matches, or where the options are listed."""
    known = list(option_names(OmegaConf.structured(schema)))
    matches = difflib.get_close_matches(name, known, n=3)
    matches = matches or [option for option in known if option.split(".")[-1] == name.split(".")[-1]][:3]
    advice = f"did you mean {' or '.join(matches)}?" if matches else listing
    return f"there is no option {name}: {advice}"


def option_names(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the names of all options, ``group.option`` where they are nested."""
    for key in (str(key) for key in node if not str(key).startswith("_")):  # _target_ is no option
        child = node._get_node(key)
        if isinstance(child, DictConfig) and len(child):
            yield from option_names(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
