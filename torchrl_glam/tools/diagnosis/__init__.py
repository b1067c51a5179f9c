"""Diagnosis of a run: its networks compared with real steps, part by part."""

from __future__ import annotations

from torchrl_glam.tools.diagnosis.diagnose import Diagnosis, context_length, diagnose
from torchrl_glam.tools.diagnosis.steps import RealSteps, join_steps, play_steps, read_steps
from torchrl_glam.tools.diagnosis.verdicts import judge

__all__ = [
    "Diagnosis",
    "RealSteps",
    "context_length",
    "diagnose",
    "join_steps",
    "judge",
    "play_steps",
    "read_steps",
]
