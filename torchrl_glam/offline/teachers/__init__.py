"""Teachers that learn Gymnasium tasks by stable-baselines3, and the datasets that are recorded of them."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("stable_baselines3") is None:
    raise ImportError('teachers need stable-baselines3: pip install "torchrl_glam[offline]"')

from torchrl_glam.offline.teachers.datasets import NewDataset, default_dataset_id, record_dataset
from torchrl_glam.offline.teachers.snapshots import Snapshot, Teacher, read_teacher
from torchrl_glam.offline.teachers.training import resolve_options, train_teacher

__all__ = [
    "NewDataset",
    "Snapshot",
    "Teacher",
    "default_dataset_id",
    "read_teacher",
    "record_dataset",
    "resolve_options",
    "train_teacher",
]
