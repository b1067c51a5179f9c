"""GLAM, a Mamba-based world model, as TorchRL parts.

The algorithm: ``modules`` (world model, sequence backbones, Mamba, policy), ``objectives`` (losses), ``envs`` (Atari,
the imagined environment), ``data`` (replay) and ``training`` (the updates). Each part works without the rest.
``config`` and ``factory`` make them from options, ``runs`` keeps what a run leaves on disk, ``command`` has the command
lines, ``offline`` is MambaDM, ``tools`` read runs, and ``examples`` are the loops. Importing this module imports none
of them, their first use does: ``torchrl_glam.modules.MambaBlock``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    "command",
    "config",
    "data",
    "envs",
    "errors",
    "examples",
    "factory",
    "machine",
    "modules",
    "objectives",
    "offline",
    "presentation",
    "runs",
    "tools",
    "training",
)
__all__ = ["__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
