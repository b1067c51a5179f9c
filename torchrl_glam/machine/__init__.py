"""This machine: compilers, memory, cores, the terminal."""

from __future__ import annotations
