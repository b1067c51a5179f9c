"""A trained run, finished or not, or what was exported of one, as objects."""

from __future__ import annotations

from torchrl_glam.loading.glam import LoadedRun, load_run, read_config
from torchrl_glam.loading.offline import LoadedDecisions, load_decisions

__all__ = ["LoadedDecisions", "LoadedRun", "load_decisions", "load_run", "read_config"]
