"""A study: many runs of one command, next to or after each other, that goes on where it was interrupted."""

from __future__ import annotations

from torchrl_glam.command.study.launch import run_study

__all__ = ["run_study"]
