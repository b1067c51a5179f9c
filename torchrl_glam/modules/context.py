"""A buffer of the last entries, filled from the front: the memory of networks that restart on their recent past.

Because entries lie at the front, a causal network over all slots is exact for the filled ones.

``b`` any leading shape, ``w`` slots of the buffer, ``x`` width of an entry.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


def append_entry(
    entries: Shaped[Tensor, "*b w x"], entry: Shaped[Tensor, "*b x"], length: Int[Tensor, "*b 1"]
) -> Shaped[Tensor, "*b w x"]:
    """Append to a buffer and drop the oldest entry if it is full.

    Args:
        entries: the buffer; the first ``length`` slots are filled.
        entry: the new entry.
        length: numbers from 0 to ``w``.

    Returns:
        The new buffer; the arguments are not written to.
    """
    slots = entries.shape[-2]
    shifted = torch.where((length == slots).unsqueeze(-1), entries.roll(-1, dims=-2), entries)
    position = length.clamp_max(slots - 1)
    here = torch.arange(slots, device=length.device) == position
    return torch.where(here.unsqueeze(-1), entry.unsqueeze(-2).to(entries), shifted)


def newest_entry(entries: Shaped[Tensor, "*b w x"], length: Int[Tensor, "*b 1"]) -> Shaped[Tensor, "*b x"]:
    """Return the last filled slot; the first slot if none is filled."""
    index = (length - 1).clamp_min(0).unsqueeze(-1)
    return entries.take_along_dim(index, dim=-2).squeeze(-2)


def first_steps(done: Bool[Tensor, "b t 1"]) -> Bool[Tensor, "b t 1"]:
    """Return which steps of consecutive ones follow an episode's end; of the first one nothing is known: False."""
    return torch.cat([torch.zeros_like(done[:, :1]), done[:, :-1]], 1)
