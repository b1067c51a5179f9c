"""The places in a run's folder that a run writes to, and what it does where something else is there."""

from __future__ import annotations

from pathlib import Path

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint import WEIGHTS
from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS
from torchrl_glam.runs.checkpoint.replay_files import REPLAY
from torchrl_glam.runs.loggers import TENSORBOARD, WANDB
from torchrl_glam.runs.metric_files import METRICS

CONFIG, RECORD, RESULT = "config.yaml", "run.json", "result.json"
FILES = (CONFIG, RECORD, RESULT, WEIGHTS)
FOLDERS = (CHECKPOINTS, METRICS, REPLAY, TENSORBOARD, WANDB, "media")


def check_links(folder: Path) -> None:
    """Raise UsageError where a run, or whoever loads it, would read, write or delete through a symbolic link."""
    for name in (*FILES, *FOLDERS):
        if (folder / name).is_symlink():
            raise UsageError(
                f"{folder / name} is a symbolic link, and a run reads and writes its own folder only: remove the "
                "link, or choose another run_dir, which may itself be a link"
            )


def check_unused(folder: Path, *, is_record: bool) -> None:
    """Raise UsageError if a run that begins in ``folder`` would meet somebody else's files in its own places.

    Args:
        folder: the run's.
        is_record: ``run.json`` is a run's that was killed before it wrote its options.
    """
    found = [name for name in FILES if (folder / name).exists() and not (name == RECORD and is_record)]
    for name in FOLDERS:
        if (folder / name).is_dir():
            found += sorted(f"{name}/{path.name}" for path in (folder / name).iterdir())[:1]
        elif (folder / name).exists():
            found.append(name)
    if found:
        raise UsageError(
            f"run_dir={folder} holds files of something else where a run puts its own ({', '.join(found)}): choose "
            "another folder, or move them away"
        )
