"""A backbone that forgets all but its last tokens: the released code's imagination, and the speed baseline."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.context import append_entry, newest_entry
from torchrl_glam.modules.dynamics.base import SequenceBackbone


class SlidingWindow(SequenceBackbone):
    """Restart another backbone on the last ``window`` tokens at every step instead of carrying its memory.

    This is how GLAM's released code imagines (window 8). Beyond ``window`` tokens ``step`` no longer equals
    ``forward``: what happened before the window is lost.

    Args:
        backbone: the backbone to restart; its parameters are shared, not copied.
        window: tokens it sees.

    Raises:
        UsageError: if ``window`` is below 1.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import GLAMDynamics, SlidingWindow
        >>> dynamics = SlidingWindow(GLAMDynamics(32), window=8)
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> memory["tokens"].shape
        torch.Size([2, 8, 32])
    """

    def __init__(self, backbone: SequenceBackbone, window: int = 8) -> None:
        super().__init__(backbone.width)
        if window < 1:
            raise UsageError(f"window={window}: a sliding window holds at least 1 token")
        self.backbone = backbone
        self.window = window

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """The backbone's own beliefs over the whole sequence; the memory is the last ``window`` tokens."""
        beliefs, _ = self.backbone(tokens)
        kept = tokens[:, -self.window :]
        length = torch.full((tokens.shape[0], 1), kept.shape[1], device=tokens.device)
        return beliefs, self._memory(nn.functional.pad(kept, (0, 0, 0, self.window - kept.shape[1])), length)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        tokens = append_entry(memory["tokens"], token, memory["length"])
        length = (memory["length"] + 1).clamp_max(self.window)
        beliefs, _ = self.backbone(tokens)
        return newest_entry(beliefs, length), self._memory(tokens, length)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """``tokens [b window d]``, of which the first ``length [b 1]`` count: none yet."""
        parameter = next(self.backbone.parameters())
        length = torch.zeros(batch_size, 1, dtype=torch.long, device=parameter.device)
        return self._memory(parameter.new_zeros(batch_size, self.window, self.width), length)

    @staticmethod
    def _memory(tokens: Tensor, length: Tensor) -> TensorDict:
        return TensorDict({"tokens": tokens, "length": length}, batch_size=tokens.shape[:1], device=tokens.device)
