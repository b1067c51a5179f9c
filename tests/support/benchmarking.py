"""The benchmark at sizes of seconds: its options, made-up measurements, and its tables read back."""

from __future__ import annotations

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.benchmark import Measurement, TaskSpec

from tests.support.paths import CONFIGS
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig

CPU = torch.device("cpu")
TINY = ["preset=debug", "env.name=tests.support.games:CatchBall-v0", "training.warmup_frames=20", "seconds=0.1"]


def load(*overrides: str) -> BenchmarkConfig:
    """Return the config that the command line makes of these options."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        return OmegaConf.to_object(compose("benchmark", overrides=list(overrides)))


def rows_of(markdown: str) -> dict[str, list[str]]:
    """Return the rows of all tables by their first cell."""
    rows = [line.strip(" |").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in reversed(rows)}  # of equal names the first


def times(seconds: float, repeats: int = 5) -> Measurement:
    """Make a measurement of ``repeats`` equal times."""
    return Measurement(1, repeats * [seconds], TaskSpec("run()", ""))
