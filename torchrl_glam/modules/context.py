"""A buffer of the last entries, filled from the front: the memory of whatever restarts on its recent past.

Because entries lie at the front, a causal network over all slots is exact for those that are filled.
"""

from __future__ import annotations

import torch
from torch import Tensor


def append_entry(entries: Tensor, entry: Tensor, length: Tensor) -> Tensor:
    """Append to a buffer, dropping the oldest entry if it is full.

    Args:
        entries: ``[.. w x]``, of which the first ``length`` count.
        entry: ``[.. x]``.
        length: ``[.. 1]``, whole numbers from 0 to ``w``.

    Returns:
        The new buffer ``[.. w x]``; the arguments are left as they are.
    """
    slots = entries.shape[-2]
    shifted = torch.where((length == slots).unsqueeze(-1), entries.roll(-1, dims=-2), entries)
    position = length.clamp_max(slots - 1)
    here = torch.arange(slots, device=length.device) == position
    return torch.where(here.unsqueeze(-1), entry.unsqueeze(-2).to(entries), shifted)


def newest_entry(entries: Tensor, length: Tensor) -> Tensor:
    """The last of the entries ``[.. w x]`` that count, ``[.. x]``; the first slot if none does."""
    index = (length - 1).clamp_min(0).unsqueeze(-1)
    return entries.take_along_dim(index, dim=-2).squeeze(-2)
