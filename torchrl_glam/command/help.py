"""The page that ``--help`` prints for a command of runs: what can be chosen, and where the rest is."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from torchrl_glam.command.given import group_choices
from torchrl_glam.command.options import field_comments, show_option
from torchrl_glam.config import GROUPS

MATTER = (
    *("env.name", "dataset", "quality", "steps", "env.num_envs", "env.protocol", "seed", "device", "total_frames"),
    *("total_updates", "run_dir", "resume", "init_from", "logger", "training.compile", "evaluation.episodes"),
)
"""The options that matter most; a command shows those that it has."""

FLAGS = {
    "--check": "look at machine and options, and train nothing",
    "-m": "a study: every combination of the lists given, seed=0,1,2; study=joblib runs several at once",
    "--cfg job": "print all options with their values, and run nothing",
    "--hydra-help": "Hydra's own flags",
}


def help_page(config_dir: Path, config_name: str, schema: type[Any], main: Callable[..., None]) -> str:
    """Return the text: usage, presets, groups, the options that matter, flags, and where the rest is."""
    script = Path(sys.argv[0]).name
    primary: Any = OmegaConf.to_container(OmegaConf.load(config_dir / f"{config_name}.yaml"), resolve=False)
    entries = [entry for entry in primary.get("defaults", ()) if isinstance(entry, dict)]
    defaults = {str(name): default for entry in entries for name, default in entry.items() if " " not in str(name)}
    groups = {name: default for name, default in defaults.items() if group_choices(config_dir, name)}
    parts = [f"{inspect.getdoc(main)}\n\n{script} key=value ..."]
    if "preset" in groups:
        files = {name: config_dir / "preset" / f"{name}.yaml" for name in group_choices(config_dir, "preset")}
        parts.append(_listing("preset=", {name: _first_comment(path) for name, path in files.items()}))
    choices = {f"{name}={default}": _choices(config_dir, name) for name, default in groups.items() if name != "preset"}
    if choices:
        parts.append(_listing("Parts, each chosen as a whole:", choices))
    parts.append(_listing("Options that matter:", _options(schema)))
    flags = {flag: text for flag, text in FLAGS.items() if flag != "--check" or "check" in schema.__dataclass_fields__}
    parts.append(_listing("Flags:", {name: text for name, text in flags.items() if name != "-m" or "study" in groups}))
    where = f"What they mean: {schema.__module__}, and the constructors of the parts."
    parts.append(f"All options: {script} --cfg job. {where}")
    return "\n\n".join(parts) + "\n"


def _listing(title: str, lines: dict[str, str]) -> str:
    width = max(map(len, lines)) + 2
    return "\n".join([title, *(f"  {name:{width}}{text}".rstrip() for name, text in lines.items())])


def _choices(config_dir: Path, name: str) -> str:
    own = ", or package.module.Class of yours" if name in GROUPS else ""
    return "|".join(group_choices(config_dir, name)) + own


def _first_comment(path: Path) -> str:
    comments = re.findall(r"^# (?!@package)(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return comments[0] if comments else ""


def _options(schema: type[Any]) -> dict[str, str]:
    """Return each option of ``MATTER`` with its default and choices, and its comment."""
    shown: dict[str, str] = {}
    defaults = OmegaConf.structured(schema)
    for name in MATTER:
        group, _, last = name.rpartition(".")
        node = OmegaConf.select(defaults, group) if group else defaults
        owner: Any = None if node is None else OmegaConf.get_type(node)
        if owner is not None and last in owner.__dataclass_fields__:
            comment = field_comments(owner).get(last, "")
            shown[show_option(last, node, f"{group}." if group else "")] = comment
    return shown
