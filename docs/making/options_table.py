"""Tables of all options, from the dataclasses' comments and the docstrings of the parts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from torchrl_glam.command.options import field_comments
from torchrl_glam.config import GROUPS, GLAMConfig, load_preset
from torchrl_glam.config.parts import SCHEMES
from torchrl_glam.modules import GLAMWorldModel, MambaBlock
from torchrl_glam.modules.dynamics.layers import ResidualMamba
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.offline.config import MODELS, OfflineConfig
from torchrl_glam.training.imports import import_class

MARK = "<!-- the options -->"
HEAD = "| option | default | meaning |\n|---|---|---|"
PASSED_ON = (ResidualMamba, MambaBlock)  # whose options a part may take and pass on


def render() -> str:
    """Return the tables in Markdown, with their headings."""
    parts = {GLAMWorldModel: "world_model", GLAMModelLoss: "model_loss"}
    paper = OmegaConf.structured(load_preset("paper"))
    sections = ["## Of a run of GLAM", *dataclass_tables(GLAMConfig, paper)]
    sections += [part_table(name, part, paper[name]) for part, name in parts.items()]
    for name, group in GROUPS.items():
        choices = group.choices or SCHEMES
        sections.append(f"### Parts: `{name}=`")
        for choice, part in choices.items():
            node = OmegaConf.structured(group.node(part))
            sections.append(part_table(group.place, part, node, f"`{choice}`: " if group.choices else "scheme "))
    sections += ["## Of a run of MambaDM", *dataclass_tables(OfflineConfig, OmegaConf.structured(OfflineConfig))]
    for name, node in MODELS.items():
        actor = import_class("model", node._target_, object)
        sections.append(part_table("model", actor, OmegaConf.structured(node), f"`model={name}`: "))
    return "\n\n".join(section for section in sections if section)


def dataclass_tables(schema: Any, values: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the table of a dataclass, then those of the dataclasses within it."""
    comments, nested, lines = field_comments(schema), [], []
    for name in (str(name) for name in values):
        node = values._get_node(name)
        if isinstance(node, DictConfig) and len(node):
            owner = OmegaConf.get_type(values, name)
            if owner.__module__.startswith("torchrl_glam"):  # not one that is made of a constructor
                nested.append((name, owner))
        elif not name.startswith("_") and name not in ("model",):
            lines.append(line(f"{prefix}{name}", values, name, comments.get(name, "")))
    if prefix:
        yield f"### `{prefix.removesuffix('.')}`\n\n{inspect.getdoc(schema)}"
    yield "\n".join([HEAD, *lines])
    for name, owner in nested:
        yield from dataclass_tables(owner, values[name], f"{prefix}{name}.")


def part_table(place: str, part: Any, node: DictConfig, title: str = "") -> str:
    """Return the table of the options of a part, which are its constructor's arguments."""
    known: dict[str, str] = {}
    for source in (*PASSED_ON, *reversed(inspect.getmro(part) if inspect.isclass(part) else (part,))):
        known |= documented(source)
    names = [str(name) for name in node if not str(name).startswith("_") and str(name) not in GROUPS]
    heading = f"{'####' if title else '###'} {title}`{part.__name__}`"
    if not names:
        return f"{heading}\n\nIt has no options."
    return "\n".join([heading, "", HEAD, *(line(f"{place}.{name}", node, name, known.get(name, "")) for name in names)])


def documented(source: Any) -> dict[str, str]:
    """Return the text on each argument in the section ``Args`` of a docstring."""
    section = (inspect.getdoc(source) or "").partition("Args:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
        if not text.startswith("see :"):
            found |= dict.fromkeys(names.split(", "), re.sub(r"\s+", " ", text))
    return found


def line(option: str, values: DictConfig, name: str, meaning: str) -> str:
    """Return the row of one option."""
    value: Any = "(wanted)" if OmegaConf.is_missing(values, name) else values[name]
    if isinstance(value, Enum):
        others = [f"`{member.name}`" for member in type(value) if member is not value]
        meaning, value = f"{meaning}{'; ' if meaning else ''}or {', '.join(others)}", value.name
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    shown = "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)
    meaning = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", meaning).replace("``", "`").replace("|", "\\|")
    return f"| `{option}` | `{shown or ' '}` | {meaning} |"
