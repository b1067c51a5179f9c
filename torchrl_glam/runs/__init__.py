"""What every run has: its folder, its checkpoints, its metrics, its progress bar, an orderly end."""

from __future__ import annotations
