"""The benchmark's options: those of a run, and its own. A variant is a set of values for options of the run."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch
from hydra.core.config_store import ConfigStore

from torchrl_glam import presentation
from torchrl_glam.config import GLAMConfig, make_schema
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.compilation import check_compiler
from torchrl_glam.tools.benchmarks.timing import SECONDS


class Report(Enum):
    """``tables``: components and scans; ``scans``: only scans; ``scaling``: imagination by horizon and by context."""

    tables = "tables"
    scans = "scans"
    scaling = "scaling"


class Variant(Enum):
    """The variants: ``sliding`` is the baseline, the others are the run's options without and with compiling."""

    sliding = "sliding"
    eager = "eager"
    compiled = "compiled"


VARIANT_OPTIONS: dict[Variant, dict[str, object]] = {
    Variant.sliding: {
        "imagination.memory": "sliding",
        "imagination.starts": "replay",
        "agent.replay_value_coeff": 0.0,  # needs batches to start from
        "world_model.dynamics.backend": "reference",
        "training.compile": False,
        "training.precision": "float32",
    },
    Variant.eager: {"training.compile": False},
    Variant.compiled: {"training.compile": True},
}


@dataclass
class BenchmarkConfig(GLAMConfig):
    """Every option of a run, and those of its measurement."""

    report: Report = Report.tables
    variants: tuple[Variant, ...] = tuple(Variant)
    seconds: float = SECONDS  # per row at most, but 3 calls; fewer where the times differ by less than a tenth
    out: str | None = None  # Markdown file
    profile: str | None = None  # chrome trace of the last variant's components
    picture: str = "scaling.png"  # of report=scaling; its numbers lie beside it as .csv

    def __post_init__(self) -> None:
        self.variants = tuple(self.variants)  # OmegaConf makes it a list


def check_options(config: BenchmarkConfig, device: torch.device) -> None:
    """Raise UsageError, before anything is measured, for options that would fail afterwards."""
    if not config.seconds > 0:
        raise UsageError(f"seconds={config.seconds:g}: give a number above 0")
    if not config.variants:
        raise UsageError(f"variants=[]: give some of {', '.join(variant.value for variant in Variant)}")
    if len(set(config.variants)) < len(config.variants):
        raise UsageError(f"variants={[variant.value for variant in config.variants]}: give each of them once")
    if Variant.compiled in config.variants and config.report is not Report.scans:
        check_compiler(f"{Variant.compiled.value} among the variants", device)
    files = {"out": config.out, "profile": config.profile}
    if config.report is Report.scaling:
        if Path(config.picture).suffix != ".png":
            raise UsageError(f"picture={config.picture}: give a file that ends in .png")
        if not presentation.has_matplotlib:
            raise UsageError(
                'report=scaling draws with matplotlib, which is missing: pip install "torchrl_glam[report]"'
            )
        files["picture"] = config.picture
    for option, file in files.items():
        if file is not None and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise UsageError(f"{option}={file}: give a file in a folder that exists")
    if config.profile is not None and config.report is not Report.tables:
        raise UsageError(f"profile={config.profile} traces components: leave report={config.report.value} out")


def variant_config(config: BenchmarkConfig, variant: Variant) -> BenchmarkConfig:
    """Return a copy of ``config`` with the variant's options."""
    changed = copy.deepcopy(config)
    for name, value in VARIANT_OPTIONS[variant].items():
        *path, option = name.split(".")
        options = changed
        for part in path:
            options = getattr(options, part)
        setattr(options, option, type(getattr(options, option))(value))
    return changed


ConfigStore.instance().store(name="benchmark_config", node=make_schema({}, BenchmarkConfig))
