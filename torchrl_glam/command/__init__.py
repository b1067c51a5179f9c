"""Command lines: Hydra for runs, ``key=value`` for small tools, studies; bad input in one line."""

from __future__ import annotations
