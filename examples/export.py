"""Export a run: its networks as one safetensors file with the options, or its real records as a Minari dataset.

python examples/export.py run_dir=runs/pong to=safetensors out=exported/pong
python examples/export.py run_dir=runs/pong to=minari dataset_id=glam/pong-v0
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.export import export_minari, export_weights
from torchrl_glam.runs.loading import load_run, read_config


class Target(Enum):
    """The formats of an export."""

    safetensors = "safetensors"
    minari = "minari"


@dataclass
class ExportOptions:
    """Options of examples/export.py."""

    run_dir: str  # folder of a run
    to: Target  # safetensors or minari
    weights: str = "newest"  # safetensors: newest, or best, the checkpoint with the highest return in training
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    dataset_id: str | None = None  # minari: (namespace/)name-v0; null: after game and seed
    out: str | None = None  # safetensors: new folder, null: exported/RUN; minari: datasets' folder, null: Minari's own


@small_command(ExportOptions)
def main(options: ExportOptions) -> None:
    """Export a run: its networks as one safetensors file with the options, or its records as a Minari dataset."""
    folder, out = Path(options.run_dir), Path(options.out) if options.out else None
    if options.to is Target.minari:
        refuse("weights", options.weights, "newest", "it exports records")
        config = read_config(folder, trust=options.trust)
        dataset_id = export_minari(folder, config, dataset_id=options.dataset_id, root=out)
        place = "" if out is None else f"MINARI_DATASETS_PATH={out} and "
        print(f"dataset {dataset_id}: load it by {place}minari.load_dataset({dataset_id!r})")
    else:
        refuse("dataset_id", options.dataset_id, None, "give out=...")
        run = load_run(folder, weights=options.weights, trust=options.trust)
        made = export_weights(run, out or Path("exported", folder.resolve().name))
        print(f"weights of step {run.frame}: load them by torchrl_glam.runs.loading.load_run({str(made)!r})")


def refuse(name: str, value: object, default: object, reason: str) -> None:
    """Raise UsageError for an option of the other target."""
    if value != default:
        raise UsageError(f"{name}={value} means nothing here ({reason}): leave it out")


if __name__ == "__main__":
    main()
