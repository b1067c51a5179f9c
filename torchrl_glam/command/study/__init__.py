"""Studies: many runs of one command, beside or after each other, that the same command resumes."""

from __future__ import annotations
