"""A backbone that forgets all but its last tokens: the imagination of the released code, and the speed baseline."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.context import append_entry, newest_entry
from torchrl_glam.modules.dynamics.base import SequenceBackbone


class SlidingWindow(SequenceBackbone):
    """Restart another backbone on the last ``window`` tokens at every step instead of carrying its memory.

    GLAM's released code imagines in this way (window 8). Beyond ``window`` tokens ``step`` no longer equals
    ``forward``: earlier tokens are lost.

    Args:
        backbone: the backbone to restart; its parameters are shared, not copied.
        window: number of tokens it sees.

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

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Return the backbone's own beliefs over the whole sequence; the memory is the last ``window`` tokens."""
        beliefs, _ = self.backbone(tokens)
        kept = tokens[:, -self.window :]
        length = torch.full((tokens.shape[0], 1), kept.shape[1], device=tokens.device)
        return beliefs, self._memory(nn.functional.pad(kept, (0, 0, 0, self.window - kept.shape[1])), length)

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        tokens = append_entry(memory["tokens"], token, memory["length"])
        length = (memory["length"] + 1).clamp_max(self.window)
        beliefs, _ = self.backbone(tokens)
        return newest_entry(beliefs, length), self._memory(tokens, length)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return ``tokens [b window d]`` and their number ``length [b 1]``, which is 0."""
        parameter = next(self.backbone.parameters())
        length = torch.zeros(batch_size, 1, dtype=torch.long, device=parameter.device)
        return self._memory(parameter.new_zeros(batch_size, self.window, self.width), length)

    @staticmethod
    def _memory(tokens: Float[Tensor, "b window d"], length: Int[Tensor, "b 1"]) -> TensorDict:
        return TensorDict({"tokens": tokens, "length": length}, batch_size=tokens.shape[:1], device=tokens.device)
