"""The probability that an imagined episode continues, for losses that use it as a weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchrl_glam.modules.heads import BinaryHead


class Continuation(nn.Module):
    """Network for the probability that an episode did not end before a state.

    Args:
        termination: the head that predicts the logit of an end.
    """

    def __init__(self, termination: BinaryHead) -> None:
        super().__init__()
        self.termination = termination

    def forward(self, belief: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
        """Return the probability for beliefs of any leading shape ``b``."""
        return torch.sigmoid(-self.termination(belief))
