"""Ask a trained offline run for other returns, or let it act with another memory.

    python examples/evaluate_offline.py run_dir=runs/hopper targets=0.5,1,1.5
    python examples/evaluate_offline.py run_dir=runs/hopper memory=carried episodes=20

Returns are between that of a random policy (0) and the best of the dataset (1). An option that is not given
is the run's.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import json
from dataclasses import dataclass
from pathlib import Path

from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError, make_writable
from torchrl_glam.offline.config import DecisionMemory, OfflineConfig
from torchrl_glam.offline.factory import (
    check_offline_config,
    make_evaluation,
    read_dataset,
    target_fractions,
)
from torchrl_glam.offline.loading import load_decisions
from torchrl_glam.runs.files import write_file


@dataclass
class EvaluateOptions:
    """The targets and the episodes, and the file of the results."""

    run_dir: str  # folder of a run of examples/mambadm_offline.py
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    targets: str | None = None  # numbers separated by commas; null: the run's
    episodes: int | None = None  # per target; null: the run's
    memory: DecisionMemory | None = None  # window or carried; null: the run's
    seed: int | None = None  # null: the run's
    root: str | None = None  # folder of Minari datasets; null: the run's
    out: str | None = None  # JSON file; null: run_dir/evaluation-UPDATE-MEMORY-targets-TARGETS-seedSEED.json


@small_command(EvaluateOptions)
def main(options: EvaluateOptions) -> None:
    """Ask a trained offline run for other returns, or let it act with another memory."""
    memory = options.memory and options.memory.value
    run = load_decisions(options.run_dir, memory=memory, trust=options.trust)
    config = ask(run.config, options)
    memory, seed = config.evaluation.memory.value, config.seed
    asked = "-".join(f"{fraction:g}" for fraction in target_fractions(config))
    name = f"evaluation-{run.update}-{memory}-targets-{asked}-seed{seed}.json"
    out = make_writable("out", Path(options.out or Path(options.run_dir, name)))
    print(f"{options.run_dir} after {run.update} of {config.total_updates} updates, memory {memory}")
    evaluations = make_evaluation(config, read_dataset(config), run.policy)(target_fractions(config), progress=True)
    for evaluation in evaluations:
        print(evaluation)
    described = {"update": run.update, "memory": memory, "seed": seed}
    answer = {**described, "evaluations": [evaluation.to_dict() for evaluation in evaluations]}
    write_file(out, (json.dumps(answer, indent=2) + "\n").encode())
    print(out)


def ask(config: OfflineConfig, options: EvaluateOptions) -> OfflineConfig:
    """Return the run's options, replaced by those that are given, and checked."""
    evaluation = config.evaluation
    if options.targets is not None:
        evaluation.targets = parse_targets(options.targets)
    if options.episodes is not None:
        evaluation.episodes = options.episodes
    if options.seed is not None:
        config.seed = options.seed
    config.data.root = options.root or config.data.root
    check_offline_config(config)
    return config


def parse_targets(text: str) -> list[float]:
    """Return numbers that are separated by commas."""
    try:
        return [float(number) for number in text.strip("[]").split(",")]
    except ValueError as error:
        raise UsageError(f"targets={text}: give numbers separated by commas, such as targets=0.5,1") from error


if __name__ == "__main__":
    main()
