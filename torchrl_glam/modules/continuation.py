"""How likely an imagined episode goes on, for losses that weigh with it instead of cutting where it ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchrl_glam.modules.heads import BinaryHead


class Continuation(nn.Module):
    """The probability that an episode did not end on the way to a state.

    Args:
        termination: the head that gives the logit of its end.
    """

    def __init__(self, termination: BinaryHead) -> None:
        super().__init__()
        self.termination = termination

    def forward(self, belief: Tensor) -> Tensor:
        """``belief [b d]`` to a probability ``[b 1]``, ``b`` any leading shape."""
        return torch.sigmoid(-self.termination(belief))
