"""The weights of another run, with which one begins: fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torchrl.objectives import LossModule

from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS, find_weights, newest_first
from torchrl_glam.runs.contents import check_links

SHOWN = 4  # tensors that did not fit


class InitialWeights:
    """The newest weights of a run or an export; its options are not read.

    Args:
        folder: of that run.
        parts: names of the networks to take.

    Raises:
        UsageError: if there are no weights in it, or damaged ones.
    """

    def __init__(self, folder: str, parts: Sequence[str]) -> None:
        self.folder, self.parts = folder, parts
        try:
            if not Path(folder).is_dir():
                raise DamagedError("there is no such folder")
            check_links(Path(folder))
            self.weights = find_weights(Path(folder), "newest")
        except (DamagedError, UsageError) as error:
            raise UsageError(f"init_from={folder}: {error}; give the folder of a run or an export") from error

    def copy_to(self, networks: Mapping[str, nn.Module], losses: Iterable[LossModule]) -> str:
        """Copy each tensor that fits by name and shape, and return a line on what was taken and what was not.

        Args:
            networks: by name.
            losses: whose slow copies begin as what they copy.

        Raises:
            UsageError: if nothing fits.
        """
        taken, refused, total = [], [], 0
        for part in self.parts:
            there = self.weights.networks.get(part, {})
            own = networks[part].state_dict() if part in networks else {}
            fit = [key for key, tensor in own.items() if key in there and there[key].shape == tensor.shape]
            with torch.no_grad():
                for key in fit:
                    own[key].copy_(there[key])
            total += len(fit)
            taken.append(f"{part} {len(fit)} of {len(own)} tensors" if own else f"{part} none, for this run has none")
            for key in own.keys() - set(fit):
                shape = list(there[key].shape) if key in there else "nothing"
                refused.append(f"{part}.{key} is {list(own[key].shape)} here, {shape} there")
        if not total:
            raise UsageError(f"init_from={self.folder}: nothing of {', '.join(self.parts)} fits: leave it out")
        _reset_targets(losses)
        line = f"begins with the weights of {self.folder} (step {self.weights.frame}): {', '.join(taken)}"
        more = f"; and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        return f"{line}; drawn anew: {'; '.join(sorted(refused)[:SHOWN])}{more}" if refused else line


def read_initial(config: GLAMConfig) -> InitialWeights | None:
    """Return the weights of ``init_from``; None without it, and for a run that has a checkpoint of its own.

    Raises:
        UsageError: if there are none.
    """
    if config.init_from is None or newest_first(Path(config.run_dir) / CHECKPOINTS):
        return None
    return InitialWeights(config.init_from, config.init_parts)


def _reset_targets(losses: Iterable[LossModule]) -> None:
    """Let the slow copies in losses begin as what they copy."""
    for loss in losses:
        for name, copy in loss.named_children():
            if name.startswith("target_") and name.endswith("_params"):
                copy.data.update_(getattr(loss, name.removeprefix("target_")).data)
