"""A run as its user sees it: the first line, the progress bar, the run folder, the last lines."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterable, Iterator

from hydra.core.hydra_config import HydraConfig
from tensordict import TensorDictBase
from torch import nn
from torchrl.data import TensorDictReplayBuffer
from torchrl.record.loggers import Logger
from tqdm import tqdm

from torchrl_glam.checkpoint import WEIGHTS, ReplayFiles, TrainedNetworks, write_weights
from torchrl_glam.checkpoint.checkpoints import Checkpoints
from torchrl_glam.checkpoint.metric_files import cut_back, metric_lengths
from torchrl_glam.checkpoint.replay_files import REPLAY
from torchrl_glam.checkpoint.state_file import RandomState
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.estimate import duration
from torchrl_glam.health import Health
from torchrl_glam.loggers import METRICS, check_logger, close_loggers, make_loggers
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.progress import Progress, StateDict
from torchrl_glam.run_folder import RESULT, RunFolder, write_text
from torchrl_glam.stop import StopNow, StopSignals
from torchrl_glam.summary import describe_result, device_name, first_line
from torchrl_glam.terminal import progress_bar
from torchrl_glam.training import check_finite, episode_returns
from torchrl_glam.training.evaluation import Score
from torchrl_glam.training.steps import KEPT

SHOWN_LOSSES = {
    "world_model/loss_reconstruction": "recon",
    "world_model/loss_reward": "reward",
    "world_model/kl_dynamics": "kl",
    "policy/loss_critic": "critic",
    "policy/loss_value": "critic",
    "policy/loss_qvalue": "critic",
}


class Run:
    """Folder, checkpoints, progress bar and metrics of one run.

    The folder holds ``config.yaml``, ``run.json`` (versions, git state, machine), ``metrics/`` (one CSV file per
    metric: frame, value), ``checkpoints/`` and ``replay/`` to go on from, ``media/``, and at the end
    ``weights.safetensors`` and ``result.json``. While entered, SIGTERM and SIGINT end the run in order.

    Args:
        config: the run's options.

    Raises:
        UsageError: if the folder cannot be used, see :class:`~torchrl_glam.run_folder.RunFolder`.
        Stopped: if it holds this run, finished.
    """

    def __init__(self, config: GLAMConfig) -> None:
        check_logger(config.logger)
        self.config = config
        self._folder = RunFolder(config)
        self.folder = self._folder.path
        self.signals = StopSignals()
        self.loggers: list[Logger] = []
        self.progress = Progress()
        self.bar = tqdm(disable=True)
        self.device_name = ""
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage it makes

    def __enter__(self) -> Run:
        self.signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.signals.__exit__()
        try:
            close_loggers(self.loggers)
        finally:
            self._folder.release()
        if isinstance(error, StopNow):
            raise self._stopped() from None

    def announce(self, world_model: GLAMWorldModel, agent: nn.Module, seconds: float) -> None:
        """Write the first line; ``seconds`` is how long the whole run should take."""
        device = next(world_model.parameters()).device
        self._health, self.device_name = Health(device), device_name(device)
        self.write(first_line(self.config, world_model, agent, seconds))

    def resume(self, networks: TrainedNetworks, replay: TensorDictReplayBuffer, **parts: StateDict) -> None:
        """Say what a checkpoint holds, and go on from the newest good one if the folder holds any.

        From here on the folder is this run's: ``config.yaml`` is in it.

        Args:
            networks: what others than this run read of a checkpoint.
            replay: the writing view of the records.
            parts: everything else with a state: updates, collector.

        Raises:
            UsageError: if there are checkpoints, and none that can be used, or the folder cannot be written.
        """
        self.networks = networks
        self.checkpoints = Checkpoints(
            self.folder,
            self._folder.run_id,
            networks=networks,
            replay=ReplayFiles(replay, self.folder / REPLAY),
            random_state=RandomState(),
            parts={**parts, "progress": self.progress},
            keep=self.config.checkpoint.keep,
        )
        restored = self.checkpoints.restore()
        for line in restored.skipped:
            self.write(line)
        if restored.frame > (total := self.config.total_frames):
            raise UsageError(f"total_frames={total}, but the run has done {restored.frame} steps: give more")
        if self._folder.holds_run:
            self.write(f"goes on from step {restored.frame} of {total}")
        try:
            self._folder.take()
            cut_back(self.folder / METRICS, self.progress.metric_lengths)
            self.loggers = make_loggers(self.config, self.folder, first_frame=restored.frame)
        except OSError as error:
            raise self._cannot_write("the run's files", error) from error
        self.progress.begin()

    def track(self, collector: Iterable[TensorDictBase]) -> Iterator[tuple[range, TensorDictBase]]:
        """Number the collector's real steps, from 1 or where the run goes on, and log the returns of episodes that end.

        A checkpoint is written after a step where one is due, after the last one, and where the run is asked to stop.

        Yields:
            The numbers of the steps in a batch, one for each environment, and the batch.

        Raises:
            Stopped: if a signal asked for it.
            UsageError: if a checkpoint cannot be written.
        """
        last, total = self.progress.frame, self.config.total_frames
        self.bar = progress_bar(total=total, initial=last, unit="step")
        with self.bar:
            for step in collector:
                frames = range(last + 1, last + 1 + step.numel())
                last = frames[-1]
                for episode_return in episode_returns(step):
                    self.log(last, {"train/episode_return": episode_return})
                    self.progress.add_return(episode_return)
                yield frames, step
                self.progress.frame = last
                self.bar.update(len(frames))
                if self.signals.asked or last == total or self.progress.is_checkpoint_due(self.config.checkpoint):
                    self.save()
                if self.signals.asked:
                    raise self._stopped()
        self.signals.at_once = True  # nothing that follows has to be saved

    def log_updates(self, frame: int) -> None:
        """Log the last updates' metrics, named ``update/metric``, speed and memory; show the main losses.

        Raises:
            FloatingPointError: if one of them is not finite.
        """
        values: dict[str, float] = {}
        for name, of_update in self.progress.metrics.items():
            check_finite(of_update)
            values |= {f"{name}/{key}": value.float().mean().item() for key, value in of_update.items()}
        self.log(frame, values | self._health(frame))
        self.progress.shown |= {short: f"{values[key]:.3g}" for key, short in SHOWN_LOSSES.items() if key in values}
        self.bar.set_postfix(self.progress.shown, refresh=False)

    def log(self, frame: int, values: dict[str, float]) -> None:
        """Log scalars at ``frame`` to every logger.

        Raises:
            UsageError: if the disk is full.
        """
        try:
            for logger in self.loggers:
                logger.log_metrics(values, step=frame)
        except OSError as error:
            raise self._cannot_write("metrics", error) from error

    def save(self) -> None:
        """Write a checkpoint of the step that was finished last.

        Raises:
            FloatingPointError: if a weight is not finite; the checkpoints before stay.
            UsageError: if it cannot be written; the checkpoints before stay.
        """
        networks = self.networks.networks
        bad = [name for name, module in networks.items() if not all(p.isfinite().all() for p in module.parameters())]
        if bad:
            raise FloatingPointError(f"weights are not finite: {', '.join(bad)}; {KEPT}")
        self.signals.writing, began = True, time.monotonic()
        try:
            for logger in self.loggers:
                logger.flush()  # TensorBoard's queues its points
            self.progress.metric_lengths = metric_lengths(self.folder / METRICS)
            self.checkpoints.save(self.progress.frame, self.progress.train_return())
            self.progress.mark_saved()
            self.log(self.progress.frame, {"system/checkpoint_seconds": time.monotonic() - began})
        except OSError as error:
            raise self._cannot_write(f"the checkpoint of step {self.progress.frame}", error) from error
        finally:
            self.signals.writing = False

    def finish(self, returns: list[float]) -> None:
        """Log and print the evaluation, write the final weights and, last, ``result.json``."""
        config, seconds = self.config, self.progress.seconds()
        score = Score(config.env.name, config.env.protocol.value, returns)
        result = describe_result(config, score, self.progress.frame, seconds, self.device_name)
        self.log(config.total_frames, {"evaluation/return": score.mean})
        networks = self.networks
        try:
            write_weights(self.folder / WEIGHTS, networks.networks, networks.action_spec, self.progress.frame)
            write_text(self.folder / RESULT, json.dumps(result, indent=2) + "\n")
        except OSError as error:
            raise self._cannot_write("the result", error) from error
        self.write(f"evaluation: {score} | {duration(seconds)} | {self.folder}")

    def write(self, line: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(line)

    def _stopped(self) -> Stopped:
        saved, total = self.progress.saved_frame, self.config.total_frames
        where = f"saved at step {saved} of {total}. Go on" if saved else "there was no checkpoint yet. Start again"
        return Stopped(f"stopped; {where} with: {self._command()}", asked=True)

    def _cannot_write(self, what: str, error: OSError) -> UsageError:
        saved = self.progress.saved_frame
        rest = f"the checkpoint of step {saved} is whole" if saved else "there is no checkpoint yet"
        return UsageError(
            f"{what} cannot be written to {self.folder} ({error.strerror or error}); {rest}. Make room and go on with: "
            f"{self._command()}"
        )

    def _command(self) -> str:
        """The command line that goes on with this run."""
        job = HydraConfig.get().overrides.task if HydraConfig.initialized() else sys.argv[1:]  # one of a sweep
        kept = [argument for argument in job if not argument.startswith(("run_dir=", "resume="))]
        return shlex.join(["python", sys.argv[0], *kept, f"run_dir={self.folder}"])
