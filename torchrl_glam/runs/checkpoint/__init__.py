"""What a run leaves on disk to go on from, and what others read of it: weights, records."""

from __future__ import annotations

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.checkpoint.replay_files import ReplayFiles, read_records
from torchrl_glam.runs.checkpoint.state_file import StateFileAdapter, read_state, write_state
from torchrl_glam.runs.checkpoint.weights_file import (
    WEIGHTS,
    TrainedNetworks,
    Weights,
    WeightsAdapter,
    load_networks,
    read_weights,
    write_weights,
)

__all__ = [
    "WEIGHTS",
    "DamagedError",
    "ReplayFiles",
    "StateFileAdapter",
    "TrainedNetworks",
    "Weights",
    "WeightsAdapter",
    "load_networks",
    "read_records",
    "read_state",
    "read_weights",
    "write_state",
    "write_weights",
]
