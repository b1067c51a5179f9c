"""Several frames in one observation, as the Decision Transformer sees Atari (arXiv 2106.01345, Section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def stack_frames(frames: Tensor, rows: Tensor, steps: Tensor, stack: int) -> Tensor:
    """Return observations of ``stack`` frames, the newest last, side by side in their channels.

    Args:
        frames: all of a dataset, ``[n h w c]``.
        rows: the places of the newest ones, ``[m]``.
        steps: how many frames of its episode are before each of these, ``[m]``; the first one stands for earlier ones.
        stack: the frames of an observation.

    Returns:
        ``[m h w stack*c]``.

    Examples:
        >>> import torch
        >>> from torchrl_glam.offline.frames import stack_frames
        >>> frames = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1)
        >>> stack_frames(frames, torch.tensor([1, 3]), torch.tensor([1, 0]), 3).squeeze().tolist()
        [[0, 0, 1], [3, 3, 3]]
    """
    ages = torch.arange(stack - 1, -1, -1)
    places = rows[:, None] - torch.minimum(ages, steps[:, None])
    gathered = frames.index_select(0, places.flatten()).unflatten(0, places.shape)  # (m, stack, h, w, c)
    return gathered.movedim(1, -2).flatten(-2)
