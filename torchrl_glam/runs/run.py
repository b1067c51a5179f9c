"""A run as its user sees it: the first line, the progress bar, the run folder, the last lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from torchrl.data import TensorDictReplayBuffer
from torchrl.record.loggers import Logger
from tqdm import tqdm

from torchrl_glam.config import RunConfig
from torchrl_glam.config.quoting import resume_command
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.machine.invocation import this_command
from torchrl_glam.machine.resources import device_name
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.runs.checkpoint import WEIGHTS, ReplayFiles, TrainedNetworks
from torchrl_glam.runs.checkpoint.checkpoints import Checkpoints
from torchrl_glam.runs.checkpoint.replay_files import REPLAY
from torchrl_glam.runs.checkpoint.state_file import RandomState
from torchrl_glam.runs.folder import RunFolder
from torchrl_glam.runs.loggers import check_logger, close_loggers, make_loggers
from torchrl_glam.runs.metric_files import METRICS, MetricFiles
from torchrl_glam.runs.progress import Health, Progress, StateDict
from torchrl_glam.runs.stop import StopSignals, was_stopped
from torchrl_glam.training import check_finite
from torchrl_glam.training.steps import KEPT

Item = TypeVar("Item")


class Run:
    """Folder, checkpoints, progress bar and metrics of one run.

    The folder holds ``config.yaml``, ``run.json`` (versions, git state, machine), ``metrics/`` (one CSV file per
    metric: step, value), ``checkpoints/`` to resume from, and at the end ``weights.safetensors`` and ``result.json``.
    While entered, SIGTERM, SIGINT and SIGHUP end the run in order.

    Attributes:
        SHOWN: the metrics in the progress bar, and their names there.
        BAR: the format of that bar; None for tqdm's own.

    Args:
        config: the run's options.

    Raises:
        UsageError: if the folder cannot be used, see :class:`~torchrl_glam.runs.folder.RunFolder`.
        Stopped: if it holds this run, finished.
    """

    SHOWN: ClassVar[dict[str, str]] = {}
    BAR: ClassVar[str | None] = None

    def __init__(self, config: RunConfig) -> None:
        check_logger(config.logger)
        self.in_bar = dict(self.SHOWN)
        self._config = config
        self._folder = RunFolder(config)
        self.folder = self._folder.path
        self.signals = StopSignals()
        self._metric_files = MetricFiles(self.folder / METRICS, self._folder.run_id)
        self.loggers: list[Logger] = []
        self.progress = Progress()
        self.timed: dict[str, str] = {}  # shown in the bar, and not saved
        self.bar = tqdm(disable=True)
        self.device_name, self.training_seconds = "", 0.0
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage that it makes

    def __enter__(self) -> Run:
        self.signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.signals.__exit__()
        try:
            close_loggers(self.loggers)
        finally:
            self._folder.release()
        self.signals.pass_on()
        if was_stopped(error):
            raise self._stopped() from None

    def begin(self, device: torch.device, line: str) -> None:
        """Print the first line of a run on ``device``."""
        self._health, self.device_name = Health(device), device_name(device)
        self.write(line)

    def resume(self, networks: TrainedNetworks, replay: TensorDictReplayBuffer | None, **parts: StateDict) -> None:
        """Declare the parts of a checkpoint, and resume from the newest good one if the folder holds any.

        From here on the folder is this run's: ``config.yaml`` is in it.

        Args:
            networks: the part of a checkpoint that others than this run read.
            replay: the writing view of the records, if the run collects any.
            parts: everything else with a state: updates, collector.

        Raises:
            UsageError: if there are checkpoints, and none that can be used, or the folder cannot be written.
        """
        self.networks = networks
        self.checkpoints = Checkpoints(
            self.folder,
            self._folder.run_id,
            networks=networks,
            replay=None if replay is None else ReplayFiles(replay, self.folder / REPLAY, self._folder.run_id),
            random_state=RandomState(),
            parts={**parts, "progress": self.progress},
            keep=self._config.checkpoint.keep,
        )
        restored = self.checkpoints.restore()
        for line in restored.skipped:
            self.write(line)
        if restored.frame > (total := self._config.num_steps):
            raise UsageError(f"{self._config.LENGTH}={total}, but the run has done {restored.frame} steps: give more")
        if self._folder.holds_run:
            self.write(f"resumes from step {restored.frame} of {total}")
        try:
            self._folder.take()
            for line in self._metric_files.load_state_dict(self.progress.metric_files):
                self.write(line)
            self.loggers = make_loggers(self._config, self.folder, first_frame=restored.frame)
        except OSError as error:
            raise self._cannot_write("the run's files", error) from error
        self.progress.begin()

    def track(self, items: Iterable[Item], size: Callable[[Item], int] = lambda _: 1) -> Iterator[tuple[range, Item]]:
        """Number the run's steps, from 1 or from where it resumes.

        A checkpoint is written after a step where one is due, after the last one, and where the run is asked to stop.

        Args:
            items: the data of the steps, until the run has all of its own.
            size: counts the steps of an item.

        Yields:
            The numbers of an item's steps, and the item.

        Raises:
            Stopped: if a signal asked for it.
            UsageError: if a checkpoint cannot be written.
        """
        last, total = self.progress.frame, self._config.num_steps
        self.bar = progress_bar(total=total, initial=last, unit=self._config.UNIT, bar_format=self.BAR)
        with self.bar:
            for item in items:
                steps = range(last + 1, last + 1 + size(item))
                last = steps[-1]
                yield steps, item
                self.progress.frame = last
                self.bar.update(len(steps))
                if self.signals.asked or last == total or self.progress.is_checkpoint_due(self._config.checkpoint):
                    self.save()
                if self.signals.asked:
                    raise self._stopped()
        self.training_seconds = self.progress.seconds()
        self.signals.at_once = True  # there is nothing left to save

    def log_updates(self, frame: int) -> None:
        """Log the last updates' metrics as ``update/metric``, speed and memory; show the main losses.

        Raises:
            FloatingPointError: if one of them is not finite.
        """
        values: dict[str, float] = {}
        for name, of_update in self.progress.metrics.items():
            check_finite(of_update)
            values |= {f"{name}/{key}": value.float().mean().item() for key, value in of_update.items()}
        self.log(frame, values | self._health(frame))
        self.progress.shown |= {short: f"{values[key]:.3g}" for key, short in self.in_bar.items() if key in values}
        self.bar.set_postfix(self.progress.shown | self.timed, refresh=False)

    def log(self, frame: int, values: dict[str, float]) -> None:
        """Log scalars at ``frame`` to every logger.

        Raises:
            UsageError: if the disk is full, or a file of that name is not this run's.
        """
        try:
            self._metric_files.claim(values)
            for logger in self.loggers:
                logger.log_metrics(values, step=frame)
        except OSError as error:
            raise self._cannot_write("metrics", error) from error

    def save(self) -> None:
        """Write a checkpoint of the step that was finished last.

        Raises:
            FloatingPointError: if a weight or a metric is not finite; the checkpoints before stay.
            UsageError: if it cannot be written; the checkpoints before stay.
        """
        for of_update in self.progress.metrics.values():
            check_finite(of_update)  # on a GPU the only sign of a step that was skipped
        parameters = {name: module.parameters() for name, module in self.networks.networks.items()}
        if bad := [name for name, own in parameters.items() if not all(weight.isfinite().all() for weight in own)]:
            raise FloatingPointError(f"weights are not finite: {', '.join(bad)}; {KEPT}")
        self.signals.writing, began = True, time.monotonic()
        try:
            for logger in self.loggers:
                logger.flush()  # TensorBoard queues its points
            self.progress.metric_files = self._metric_files.state_dict()
            self.checkpoints.save(self.progress.frame, self.progress.train_return())
            self.progress.mark_saved()
            self.log(self.progress.frame, {"system/checkpoint_seconds": time.monotonic() - began})
        except OSError as error:
            raise self._cannot_write(f"the checkpoint of step {self.progress.frame}", error) from error
        finally:
            self.signals.writing = False

    def end(self, result: dict[str, Any], line: str) -> None:
        """Write the final weights and, last, ``result.json``; print the last line."""
        self.networks.frame = self.progress.frame
        try:
            self.networks.write(self.folder / WEIGHTS)
            self._folder.write_result(result)
        except OSError as error:
            raise self._cannot_write("the result", error) from error
        self.write(line)

    def write(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line)

    def _stopped(self) -> Stopped:
        saved, total = self.progress.saved_frame, self._config.num_steps
        where = f"saved at step {saved} of {total}. Resume" if saved else "there was no checkpoint yet. Start again"
        return Stopped(f"stopped; {where} with: {self._command()}", asked=True)

    def _cannot_write(self, what: str, error: OSError) -> UsageError:
        saved = self.progress.saved_frame
        rest = f"the checkpoint of step {saved} is whole" if saved else "there is no checkpoint yet"
        return UsageError(
            f"{what} cannot be written to {self.folder} ({error.strerror or error}); {rest}. Make room and resume "
            f"with: {self._command()}"
        )

    def _command(self) -> str:
        """Return the command line that resumes this run."""
        if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
            return "the same command"  # that of the study
        if not HydraConfig.initialized():
            return f"the same Python call, run_dir={self.folder}"
        return resume_command(this_command(), HydraConfig.get().overrides.task, str(self.folder))
