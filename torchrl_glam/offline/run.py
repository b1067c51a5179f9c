"""A run on a dataset."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from torchrl_glam.machine.resources import device_name
from torchrl_glam.machine.terminal import duration
from torchrl_glam.modules import MambaBlock
from torchrl_glam.modules.ssm import describe_backend
from torchrl_glam.offline import OfflineDataset, normalised_score
from torchrl_glam.offline.config import OfflineConfig, model_name
from torchrl_glam.offline.evaluation import Evaluation
from torchrl_glam.offline.factory import resolve_loss
from torchrl_glam.runs.folder import defining_options
from torchrl_glam.runs.metric_files import METRICS
from torchrl_glam.runs.provenance import options_hash
from torchrl_glam.runs.run import Run


class OfflineRun(Run):
    """A run whose steps are updates on a dataset.

    Args:
        config: the run's options.
        dataset: the data that it learns from.
    """

    SHOWN: ClassVar[dict[str, str]] = {
        "update/loss_action": "loss",
        "update/loss_bc": "loss",
        "update/loss_log_likelihood": "loss",
    }

    def __init__(self, config: OfflineConfig, dataset: OfflineDataset) -> None:
        super().__init__(config)
        self.config, self.dataset = config, dataset
        self._loss = resolve_loss(config.objective, dataset.action_spec).value

    def announce(self, actor: nn.Module, device: torch.device) -> None:
        """Write the first line: data, model, budget."""
        self._parameters = sum(parameter.numel() for parameter in actor.parameters())
        dataset, returns = self.dataset, self.dataset.episode_returns()
        scans = {describe_backend(part.backend, device) for part in actor.modules() if isinstance(part, MambaBlock)}
        self.begin(
            device,
            f"{dataset.dataset_id} ({dataset.num_transitions} steps of {self.config.env.name}, {dataset.num_episodes} "
            f"episodes with returns {returns.min():.4g} to {returns.max():.4g}, mean {returns.mean():.4g}) | "
            f"device {device_name(device)} | preset {self.config.preset} | model {model_name(self.config)}, "
            f"{self._parameters / 1e6:.2f} M parameters, loss {self._loss} | "
            f"{''.join(f'scan {scan} | ' for scan in sorted(scans))}"
            f"{self.config.total_updates} updates | {self.config.run_dir}",
        )

    def log_evaluation(self, update: int, evaluation: Evaluation) -> None:
        """Log the return achieved at one target."""
        values = {"evaluation/return": evaluation.mean}
        if evaluation.normalised is not None:
            values["evaluation/normalised"] = evaluation.normalised
        self.log(update, values)
        self.progress.shown["return"] = f"{evaluation.mean:.4g}"

    def finish(self, evaluations: list[Evaluation]) -> None:
        """Print the return achieved at each target, write the final weights and the result."""
        config, seconds = self.config, self.progress.seconds()
        highest = max(evaluations, key=lambda evaluation: evaluation.target_return)
        best_update, best = self._best(highest.mean)
        for evaluation in evaluations:
            self.write(str(evaluation))
        result = {
            "dataset": self.dataset.dataset_id,
            "env": config.env.name,
            "model": model_name(config),
            "preset": config.preset,
            "seed": config.seed,
            "loss": self._loss,
            "memory": config.evaluation.memory.value,
            "total_updates": config.total_updates,
            "parameters": self._parameters,
            "transitions": self.dataset.num_transitions,
            "fraction": config.data.fraction,
            **{name: value for name, value in vars(config.model).items() if not name.startswith("_")},
            "batch_size": config.batch_size,
            "lr": config.optimizer.lr,
            "options": self._options_hash(),
            "random_score": self.dataset.random_score,
            "expert_score": self.dataset.expert_score,
            "evaluations": [evaluation.to_dict() for evaluation in evaluations],
            "mean": highest.mean,
            "normalised": highest.normalised,
            "best_update": best_update,
            "best_mean": best,
            "best_normalised": normalised_score(self.dataset, best),
            "seconds": seconds,
            "device": self.device_name,
        }
        self.end(result, f"evaluation: {highest} | {duration(seconds)} | {self.folder}")

    def _best(self, last: float) -> tuple[int, float]:
        """Return the update and the return of the best evaluation at the highest target, the last one among them.

        A maximum of noisy numbers is too high: it is for comparing with papers that report it.
        """
        path = self.folder / METRICS / "scalars" / "evaluation" / "return.csv"
        rows = path.read_text().splitlines() if path.is_file() else []
        evaluated = [(int(float(step)), float(value)) for step, value in (row.split(",")[:2] for row in rows)]
        return max([*evaluated, (self.config.total_updates, last)], key=lambda pair: pair[1])

    def _options_hash(self) -> str:
        """Return a hash that is the same for runs that differ only in their seed."""
        evaluation = {"memory": self.config.evaluation.memory, "targets": self.config.evaluation.targets}
        options = {name: value for name, value in defining_options(self.config).items() if name != "seed"}
        return options_hash({**options, "evaluation": evaluation})
