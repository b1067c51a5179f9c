"""The loggers of a run's metrics: CSV files always, TensorBoard or Weights & Biases besides.

All are TorchRL's loggers. Each puts its files into the run's folder and continues where the run is resumed.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from torchrl.record.loggers import CSVLogger, Logger, TensorboardLogger, WandbLogger

from torchrl_glam.config import Logger as LoggerName
from torchrl_glam.config import RunConfig
from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.errors import UsageError, first_line
from torchrl_glam.runs.files import write_text
from torchrl_glam.runs.metric_files import METRICS

# Both take a second or more to import, so only functions that need them do. Any folder called wandb has a spec, but
# without an origin.
_available = {
    name: getattr(find_spec(name.value), "origin", None) is not None
    for name in (LoggerName.tensorboard, LoggerName.wandb)
}

TENSORBOARD, WANDB = "tensorboard", "wandb"
COMPARED = ("evaluation/return", "train/episode_return")  # what TensorBoard's table of runs shows


def check_logger(name: LoggerName) -> None:
    """Raise UsageError if the logger's package is missing."""
    if not _available.get(name, True):
        raise UsageError(
            f'logger={name.value} needs a package that is missing: pip install "torchrl_glam[{name.value}]"'
        )


def make_loggers(config: RunConfig, folder: Path, *, first_frame: int = 0) -> list[Logger]:
    """Open the loggers of a run.

    - CSV: ``metrics/scalars/NAME.csv`` with rows ``frame,value``, to which it adds
      (:mod:`torchrl_glam.runs.metric_files`).
    - TensorBoard: ``tensorboard/``; points of later steps are hidden.
    - Weights & Biases: ``wandb/``, always under the same run id. ``WANDB_MODE=offline`` in the environment needs
      neither account nor network; ``wandb sync FOLDER/wandb/offline-run-*`` uploads. Its history cannot be cut: steps
      that were taken twice have two equal points. A kill loses what it has not written, up to 15 s.

    The last two also record the options.

    Args:
        config: the run's options.
        folder: the run's, which exists.
        first_frame: the step that the run is resumed from.

    Raises:
        UsageError: if a package is missing, or Weights & Biases cannot start.
        OSError: if the folder cannot be written.

    Examples:
        >>> import tempfile
        >>> from torchrl_glam.config import GLAMConfig
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     loggers = make_loggers(GLAMConfig(), Path(folder))
        ...     loggers[0].log_scalar("policy/entropy", 1.5, step=100)
        ...     close_loggers(loggers)
        ...     (Path(folder) / "metrics/scalars/policy/entropy.csv").read_text()
        '100,1.5\\n'
    """
    check_logger(config.logger)
    loggers: list[Logger] = [CSVLogger(exp_name=METRICS, log_dir=str(folder))]
    if config.logger is LoggerName.tensorboard:
        loggers.append(_make_tensorboard(config, folder, first_frame))
    if config.logger is LoggerName.wandb:
        loggers.append(_make_wandb(config, folder))
    return loggers


def log_media(loggers: Sequence[Logger], name: str, path: Path, frame: int) -> None:
    """Give the GIF or PNG at ``path``, as it is, to those loggers that show pictures.

    Their ``log_video`` (torchrl 0.14.1) would encode frames once more, with moviepy, whose version 2 torch 2.13 does
    not support for TensorBoard.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            shown = wandb.Video(str(path), format="gif") if path.suffix == ".gif" else wandb.Image(str(path))
            logger.log_metrics({name: shown}, step=frame)
        elif isinstance(logger, TensorboardLogger):
            from tensorboard.compat.proto.summary_pb2 import Summary

            with Image.open(path) as video:
                width, height = video.size
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
            logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), frame)


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Flush the loggers and close them."""
    for logger in loggers:
        logger.shutdown()
        if isinstance(logger, CSVLogger):  # torchrl 0.14.1 leaves its files open
            for file in logger.experiment.files.values():
                with contextlib.suppress(OSError):  # a full disk, which the last row has reported
                    file.close()


class _ResumedTensorboardLogger(TensorboardLogger):
    """TorchRL's logger, which by itself cannot hide the points of later steps (0.14.1)."""

    def __init__(self, exp_name: str, log_dir: str, first_frame: int) -> None:
        self._first_frame = first_frame
        super().__init__(exp_name=exp_name, log_dir=log_dir)

    def _create_experiment(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(os.path.join(self.log_dir, self.exp_name), purge_step=self._first_frame + 1)


def _make_tensorboard(config: RunConfig, folder: Path, first_frame: int) -> TensorboardLogger:
    from torch.utils.tensorboard.summary import hparams

    is_new = not (folder / TENSORBOARD).exists()
    logger = _ResumedTensorboardLogger(TENSORBOARD, str(folder), first_frame)
    if is_new:
        # Not with log_hparams: torch's add_hparams opens one more folder of events at each call.
        shown = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)  # it takes no other types
            for name, value in flatten_options(plain_options(config)).items()
        }
        for summary in hparams(shown, dict.fromkeys(COMPARED, 0.0)):
            logger.experiment.file_writer.add_summary(summary)
    return logger


def _make_wandb(config: RunConfig, folder: Path) -> WandbLogger:
    import wandb

    files = folder.resolve() / WANDB
    files.mkdir(exist_ok=True)
    identity = files / "run_id.txt"
    if not identity.exists():
        write_text(identity, uuid.uuid4().hex[:8] + "\n")
    os.environ.setdefault("WANDB_CACHE_DIR", str(files / "cache"))  # else its logs go to the home folder
    try:
        logger = WandbLogger(
            exp_name=files.parent.name,
            log_dir=str(files.parent),
            id=identity.read_text().strip(),
            project=os.environ.get("WANDB_PROJECT", "torchrl_glam"),
            log_env_packages=False,
        )
    except wandb.Error as error:
        raise UsageError(
            f"logger=wandb cannot start ({first_line(error)}): set WANDB_MODE=offline to do without an account"
        ) from error
    logger.log_hparams(plain_options(config))
    return logger
