"""A run as its user sees it: the first line, the progress bar, the run folder, the last lines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from omegaconf import OmegaConf
from tensordict import TensorDictBase
from torch import nn
from torchrl.record.loggers import Logger, get_logger
from tqdm import tqdm

from torchrl_glam.config import GLAMConfig
from torchrl_glam.config import Logger as LoggerName
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMWorldModel, MambaBlock
from torchrl_glam.modules.ssm import resolve_backend
from torchrl_glam.report import game_name, human_normalised_score, reference_scores
from torchrl_glam.training import check_finite, episode_returns

SHOWN_LOSSES = {
    "world_model/loss_reconstruction": "recon",
    "world_model/loss_reward": "reward",
    "world_model/kl_dynamics": "kl",
    "policy/loss_critic": "critic",
    "policy/loss_value": "critic",
    "policy/loss_qvalue": "critic",
}


class Run:
    """Folder, progress bar and metrics of one run.

    The folder holds ``config.yaml``, ``metrics/`` (one CSV file per metric: frame, value), ``weights.pt``,
    ``imagined.png`` and ``result.json``.

    Args:
        config: the run's options.

    Raises:
        UsageError: if the folder cannot be made or already holds a run.
    """

    def __init__(self, config: GLAMConfig) -> None:
        self.config = config
        self.folder = Path(config.run_dir)
        self.loggers = self._open()
        self.started = time.monotonic()
        self.bar = tqdm(disable=True)
        self.shown: dict[str, str] = {}
        self.device_name = ""
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage it makes

    def _open(self) -> list[Logger]:
        """Make the folder and the loggers."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "config.yaml").exists():
                raise UsageError(f"run_dir={self.folder} already holds a run: choose another or remove it")
            loggers = self._make_loggers()
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"run_dir={self.folder} cannot be written ({reason}): choose another folder") from error
        return loggers

    def _make_loggers(self) -> list[Logger]:
        names = {LoggerName.csv.value, self.config.logger.value}
        wandb = {"project": "torchrl_glam", "config": OmegaConf.to_container(OmegaConf.structured(self.config))}
        experiments = {name: self.folder.name if name == LoggerName.wandb.value else "metrics" for name in names}
        try:
            return [
                get_logger(name, logger_name=str(self.folder), experiment_name=experiment, wandb_kwargs=wandb)
                for name, experiment in sorted(experiments.items())
            ]
        except ImportError as error:
            name = self.config.logger.value
            raise UsageError(f"logger={name} needs a package that is missing ({error}): pip install {name}") from error

    def announce(self, world_model: GLAMWorldModel, agent: nn.Module, seconds: float) -> None:
        """Write the first line: what runs where, how large it is, how long it will take.

        From here on the folder is taken: ``config.yaml`` is in it.
        """
        config = self.config
        (self.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
        device = next(world_model.parameters()).device
        self.device_name = _device_name(device)
        swapped = [f"{option} {value}" for option, value in choices(config).items() if value not in ("none", "glam")]
        scans = any(isinstance(module, MambaBlock) for module in world_model.modules())
        parts = [f"preset {config.preset}", *swapped]
        parts += [f"scan {resolve_backend(config.world_model.dynamics.backend, device)}"] if scans else []
        self.write(
            f"{config.env.name} ({world_model.action_size} actions, protocol {config.env.protocol.value}) | "
            f"device {self.device_name} | {' | '.join(parts)} | "
            f"world model {_millions(world_model)}, agent {_millions(agent)} parameters | "
            f"{config.total_frames} frames, about {_duration(seconds)} and the evaluation | {self.folder}"
        )

    def track(self, collector: Iterable[TensorDictBase]) -> Iterator[tuple[range, TensorDictBase]]:
        """Number the collector's real steps from 1 under a progress bar; log the return of each episode that ends.

        Yields:
            The numbers of the steps in a batch, one for each environment, and the batch.
        """
        self.bar = tqdm(
            total=self.config.total_frames, unit="step", dynamic_ncols=True, mininterval=0.5, file=sys.stdout
        )
        with self.bar:
            last = 0
            for step in collector:
                frames = range(last + 1, last + 1 + step.numel())
                last = frames[-1]
                for episode_return in episode_returns(step):
                    self.log(last, {"train/episode_return": episode_return})
                    self.shown["return"] = f"{episode_return:g}"
                yield frames, step
                self.bar.update(len(frames))

    def log_updates(self, frame: int, **updates: TensorDictBase | None) -> None:
        """Log the metrics of the last updates, named ``update/metric``, and show the main losses.

        Raises:
            FloatingPointError: if one of them is not finite.
        """
        parts = {name: metrics for name, metrics in updates.items() if metrics is not None}
        values: dict[str, float] = {}
        for name, metrics in parts.items():
            check_finite(metrics)
            values |= {f"{name}/{key}": value.float().mean().item() for key, value in metrics.items()}
        self.log(frame, values)
        self.shown |= {short: f"{values[key]:.3g}" for key, short in SHOWN_LOSSES.items() if key in values}
        self.bar.set_postfix(self.shown, refresh=False)

    def log(self, frame: int, values: dict[str, float]) -> None:
        """Log scalars at ``frame`` to every logger."""
        for logger in self.loggers:
            for name, value in values.items():
                logger.log_scalar(name, value, step=frame)

    def save(self, **modules: nn.Module) -> None:
        """Write the modules' weights to ``weights.pt``, replacing the last ones only when all is written.

        Raises:
            FloatingPointError: if a weight is not finite; the last ones written stay.
        """
        bad = [name for name, module in modules.items() if not all(p.isfinite().all() for p in module.parameters())]
        if bad:
            raise FloatingPointError(
                f"weights are not finite: {', '.join(bad)}; {self.folder}/weights.pt is left as it was"
            )
        temporary = self.folder / "weights.pt.part"
        torch.save({name: module.state_dict() for name, module in modules.items()}, temporary)
        os.replace(temporary, self.folder / "weights.pt")

    def finish(self, returns: list[float]) -> None:
        """Log and print the evaluation, and write ``result.json``."""
        config, scores = self.config, torch.tensor(returns)
        mean, spread = scores.mean().item(), scores.std(correction=0).item()
        normalised = human_normalised_score(config.env.name, mean)
        seconds = time.monotonic() - self.started
        result = {
            "env": config.env.name,
            "protocol": config.env.protocol.value,
            "preset": config.preset,
            **choices(config),
            "seed": config.seed,
            "total_frames": config.total_frames,
            "returns": returns,
            "mean": mean,
            "human_normalised": normalised,
            "seconds": seconds,
            "device": self.device_name,
        }
        (self.folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        self.log(config.total_frames, {"evaluation/return": mean})
        self.write(
            f"evaluation: {mean:.2f}, standard deviation {spread:.2f} over {len(returns)} episodes "
            f"(protocol {config.env.protocol.value}{_references(config.env.name, normalised)}) | "
            f"{_duration(seconds)} | {self.folder}"
        )

    def write(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line)


def choices(config: GLAMConfig) -> dict[str, str]:
    """What was swapped: ablation, backbone, objective; a class of the user's by its import path."""
    dynamics, objective = config.world_model.dynamics, config.objective
    return {
        "ablation": config.ablation,
        "dynamics": dynamics.target or dynamics.name.value,
        "objective": objective.loss if objective.name == "custom" else objective.name,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _references(env_name: str, normalised: float | None) -> str:
    game = game_name(env_name)
    references = reference_scores(game) if game else None
    if references is None or normalised is None:
        return ""
    return f"; random {references.random:g}, human {references.human:g}, human-normalised {normalised:.3f}"
