"""A run's options, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from torchrl_glam.errors import UsageError

Config = TypeVar("Config")


def read_options(folder: Path, schema: type[Config], command: str) -> Config:
    """The options of the run in ``folder``.

    Args:
        folder: the run's.
        schema: the options' dataclass.
        command: what makes such runs.

    Raises:
        UsageError: if there are none, or they are not this version's.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} holds no run: give a folder with config.yaml, as {command} makes them")
    try:
        options: Any = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path))
        return OmegaConf.to_object(options)  # type: ignore[return-value]
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{path} cannot be read ({reason}): it is damaged, another version's, or no run of {command}"
        ) from error
