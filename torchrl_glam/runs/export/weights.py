"""The networks of a run and its options, as a folder for :func:`torchrl_glam.runs.loading.load_run`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from omegaconf import OmegaConf

from torchrl_glam.runs.checkpoint import WEIGHTS, write_weights
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.loading import LoadedRun


def export_weights(run: LoadedRun, folder: Path) -> Path:
    """Write ``config.yaml`` and ``weights.safetensors``, which hold all that acting and imagining need.

    World model, actor and critic, where there is one, go into one file, ``network.parameter`` each; optimizers, replay
    and what else a run needs to go on stay behind. The folder is there when all of it is.

    Args:
        run: from :func:`torchrl_glam.runs.loading.load_run`.
        folder: new, or empty.

    Returns:
        The folder.

    Raises:
        UsageError: if there is something in it, or it cannot be written.
    """
    networks = {"world_model": run.world_model, "actor": run.actor, "critic": run.critic}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"out={folder} is there already: choose another folder or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
            made = Path(temporary, folder.name)
            made.mkdir()
            (made / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(run.config)))
            present = {name: network for name, network in networks.items() if network is not None}
            write_weights(made / WEIGHTS, present, run.action_spec, run.frame)
            os.replace(made, folder)
    except OSError as error:
        raise UsageError(
            f"out={folder} cannot be written ({error.strerror or error}): choose another folder"
        ) from error
    return folder
