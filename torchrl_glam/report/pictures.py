"""What the world model imagines, as pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import GLAMWorldModel, LatentTransition


@torch.no_grad()
def imagine_frames(world_model: GLAMWorldModel, pixels: Tensor, action: Tensor, context_length: int) -> Tensor:
    """Read a context of real frames, then imagine those that follow under the actions really taken.

    Args:
        world_model: in eval mode.
        pixels: uint8 ``[t h w channels]``, consecutive real frames.
        action: ``[t a]``, the action taken at each.
        context_length: frames read; the other ``t - context_length`` are imagined.

    Returns:
        uint8 ``[t - context_length, h, w, channels]``; frame ``i`` stands for real frame ``context_length + i``.

    Raises:
        UsageError: unless ``0 < context_length < t``.
    """
    if not 0 < context_length < pixels.shape[0]:
        raise UsageError(f"context_length={context_length} of {pixels.shape[0]} frames: leave some to imagine")
    transition = LatentTransition(world_model, world_model.dynamics)
    state, _, memory = transition.start(pixels[None, :context_length], action[None, :context_length])
    states = [state]
    for taken in action[context_length:-1]:
        state, _, memory = transition(state, taken[None], memory)
        states.append(state)
    frames = world_model.decoder(torch.cat(states)).movedim(-3, -1)
    return frames.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def write_strip(path: Path, *rows: Tensor, scale: int = 2) -> None:
    """Write rows of frames, uint8 ``[n h w 3]`` each (RGB), below each other as one PNG, ``scale`` times as large."""
    strip = np.concatenate([np.concatenate(list(row.cpu().numpy()), 1) for row in rows], 0)
    size = (strip.shape[1] * scale, strip.shape[0] * scale)
    enlarged = cv2.resize(strip, size, interpolation=cv2.INTER_NEAREST)
    if not cv2.imwrite(str(path), cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR)):
        raise UsageError(f"cannot write the picture {path}: is the folder writable?")
