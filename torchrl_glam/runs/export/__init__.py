"""A run for others: its networks as one file with the options, its real records as a dataset."""

from __future__ import annotations

from torchrl_glam.runs.export.minari import export_minari
from torchrl_glam.runs.export.weights import export_weights

__all__ = ["export_minari", "export_weights"]
