"""The files that a run resumes from, and those parts of them that others read: weights and records."""

from __future__ import annotations

from torchrl_glam.runs.checkpoint.replay_files import ReplayFiles, read_records
from torchrl_glam.runs.checkpoint.state_file import read_state, write_state
from torchrl_glam.runs.checkpoint.weights_file import (
    WEIGHTS,
    TrainedNetworks,
    Weights,
    load_networks,
    read_weights,
)

__all__ = [
    "WEIGHTS",
    "ReplayFiles",
    "TrainedNetworks",
    "Weights",
    "load_networks",
    "read_records",
    "read_state",
    "read_weights",
    "write_state",
]
