"""The manifest of a checkpoint, which somebody else may have written: checked before TorchRL reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchrl.checkpoint import Checkpoint

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.foreign import read_json

MANIFEST = "manifest.json"


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Read a manifest as TorchRL (0.14.1) does, which would wait for a pipe and expects an object.

    Raises:
        UsageError: if the file is no regular one, or no JSON object.
        CheckpointError, OSError, AttributeError, KeyError, TypeError, ValueError: if TorchRL cannot read it.
    """
    if not isinstance(read_json(checkpoint / MANIFEST), dict):
        raise UsageError(f"{MANIFEST} is no JSON object")
    return Checkpoint.manifest(checkpoint)


def part_folder(checkpoint: Path, name: str) -> Path:
    """Return the folder of one part of a checkpoint, which lies in it and is no link.

    Raises:
        UsageError: if it lies elsewhere.
        Others: as of :func:`read_manifest`.
    """
    part = Path(str(read_manifest(checkpoint)["components"][name]["path"]))
    place = checkpoint / part
    if part.is_absolute() or ".." in part.parts or place.is_symlink():
        raise UsageError(f"{name} lies outside the checkpoint")
    return place
