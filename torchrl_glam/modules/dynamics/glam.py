"""GLAM's two parallel Mambas (GLAM, AAAI 2025, arXiv 2501.11949, section "Inference module").

``b`` batch, ``t`` time, ``d`` width. The belief is the sum of both branches, ``h_t = u^g_t + u^l_t``.
"""

from __future__ import annotations

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from torchrl_glam.modules.dynamics.base import SequenceBackbone
from torchrl_glam.modules.dynamics.gmamba import GMamba
from torchrl_glam.modules.dynamics.lmamba import LMamba


class GLAMDynamics(SequenceBackbone):
    """``h_t = GMamba(variations)_t + LMamba(window)_t`` (Fig. 2).

    Args:
        width: ``d``.
        global_layers: depth of GMamba.
        local_layers: depth of LMamba.
        window: tokens in LMamba's window.
        mamba: keyword arguments of :class:`ResidualMamba` (post_norm, d_state, d_conv, expand, backend).

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import GLAMDynamics
        >>> dynamics = GLAMDynamics(width=32)
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> belief, memory = dynamics.step(torch.randn(2, 32), memory)
        >>> beliefs.shape, belief.shape
        (torch.Size([2, 16, 32]), torch.Size([2, 32]))
    """

    def __init__(
        self, width: int = 256, *, global_layers: int = 1, local_layers: int = 1, window: int = 4, **mamba: Any
    ) -> None:
        super().__init__(width)
        self.gmamba = GMamba(width, global_layers, **mamba)
        self.lmamba = LMamba(width, local_layers, window, **mamba)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.forward`."""
        beliefs, _, memory = self.forward_variation(tokens)
        return beliefs, memory

    def forward_variation(self, tokens: Tensor) -> tuple[Tensor, Tensor, TensorDict]:
        """Beliefs ``h``, variation ``u^g`` (both ``[b t d]``) and the memory."""
        change, global_memory = self.gmamba(tokens)
        place, local_memory = self.lmamba(tokens)
        memory = {"gmamba": global_memory, "lmamba": local_memory}
        return change + place, change, TensorDict(memory, batch_size=tokens.shape[:1], device=tokens.device)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.prefill`."""
        change, global_memory = self.gmamba.prefill(tokens)
        place, local_memory = self.lmamba.prefill(tokens)
        memory = {"gmamba": global_memory, "lmamba": local_memory}
        return change + place, TensorDict(memory, batch_size=tokens.shape[:1], device=tokens.device)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        change, global_memory = self.gmamba.step(token, memory["gmamba"])
        place, local_memory = self.lmamba.step(token, memory["lmamba"])
        new = {"gmamba": global_memory, "lmamba": local_memory}
        return change + place, TensorDict(new, batch_size=memory.batch_size, device=memory.device)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """See :meth:`SequenceBackbone.initial_memory`."""
        new = {"gmamba": self.gmamba.initial_memory(batch_size), "lmamba": self.lmamba.initial_memory(batch_size)}
        return TensorDict(new, batch_size=[batch_size], device=new["gmamba"].device)
