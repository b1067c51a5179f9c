"""Tools that read runs; nothing imports a tool."""

from __future__ import annotations
