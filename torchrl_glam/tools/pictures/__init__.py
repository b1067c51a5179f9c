"""Pictures and videos of what a world model imagines."""

from __future__ import annotations
