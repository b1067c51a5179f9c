"""A backbone that forgets all but its last tokens: the released code's imagination, and the speed baseline."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import Tensor

from torchrl_glam.modules.dynamics.base import SequenceBackbone


class SlidingWindow(SequenceBackbone):
    """Restart another backbone on the last ``window`` tokens at every step instead of carrying its memory.

    This is how GLAM's released code imagines (window 8). Beyond ``window`` tokens ``step`` no longer equals
    ``forward``: what happened before the window is lost.

    Args:
        backbone: the backbone to restart; its parameters are shared, not copied.
        window: tokens it sees.
    """

    def __init__(self, backbone: SequenceBackbone, window: int = 8) -> None:
        super().__init__(backbone.width)
        self.backbone = backbone
        self.window = window

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """The backbone's own beliefs over the whole sequence; the memory is the last ``window`` tokens."""
        beliefs, _ = self.backbone(tokens)
        return beliefs, self._memory(tokens[:, -self.window :])

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        tokens = torch.cat([memory["tokens"], token.unsqueeze(1)], 1)[:, -self.window :]
        beliefs, _ = self.backbone(tokens)
        return beliefs[:, -1], self._memory(tokens)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """No tokens yet: ``tokens [b 0 d]``, growing up to ``[b window d]``."""
        parameter = next(self.backbone.parameters())
        return self._memory(parameter.new_zeros(batch_size, 0, self.width))

    @staticmethod
    def _memory(tokens: Tensor) -> TensorDict:
        return TensorDict({"tokens": tokens}, batch_size=tokens.shape[:1], device=tokens.device)
