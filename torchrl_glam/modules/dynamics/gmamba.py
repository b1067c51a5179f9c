"""GMamba, GLAM's global branch (section "Inference module"): Mamba over how the tokens change.

``b`` batch, ``t`` time, ``d`` width. It reads the variation of the tokens, ``e_1 - e_0`` to ``e_t - e_{t-1}``, and
returns ``u^g_t``, the coming change. At ``t = 0`` no variation exists: the state stays at zero, and ``u^g_0 = 0``, or
what the layers make of ``e_0`` itself.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.modules.dynamics.base import SequenceBackbone
from torchrl_glam.modules.dynamics.layers import MambaStack, ResidualMamba
from torchrl_glam.modules.signature import passes_on


class GMamba(SequenceBackbone):
    """Global branch ``u^g``: Mamba layers over the variation sequence, then Linear (no bias), LayerNorm, SiLU.

    Layers are chained. (The released code feeds every layer the same input and keeps the last.)

    Args:
        width: ``d``.
        num_layers: Mamba layers.
        first_token: at ``t = 0``, read ``e_0`` itself and forget it, as the released code does; else ``u^g_0 = 0``.
        mamba: keyword arguments of :class:`ResidualMamba`.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import GMamba
        >>> changes, memory = GMamba(32)(torch.randn(2, 16, 32))
        >>> changes.shape, changes[:, 0].any().item()
        (torch.Size([2, 16, 32]), False)
    """

    has_variation = True

    @passes_on(ResidualMamba)
    def __init__(self, width: int, num_layers: int = 1, *, first_token: bool = False, **mamba: Any) -> None:
        super().__init__(width)
        self.first_token = first_token
        self.layers = MambaStack(width, num_layers, **mamba)
        self.output = nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.SiLU())

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Return ``u^g`` and the memory after the last token."""
        changes = tokens[:, 1:] - tokens[:, :-1]
        if changes.shape[1]:
            hidden, layers = self.layers(changes)
        else:
            hidden, layers = changes, self.layers.initial_memory(tokens.shape[0])
        memory = self._memory(tokens[:, -1], layers)
        if not self.first_token:
            return nn.functional.pad(self.output(hidden), (0, 0, 1, 0)), memory
        alone, _ = self.layers(tokens[:, :1])  # of a zero state, which the variations begin from too
        return torch.cat([self.output(alone), self.output(hidden)], 1), memory

    def forward_variation(
        self, tokens: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t d"], TensorDict]:
        """See :meth:`SequenceBackbone.forward_variation`: the whole output of this branch is variation."""
        outputs, memory = self(tokens)
        return outputs, outputs, memory

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return the last ``u^g`` and the memory after the last token."""
        if tokens.shape[1] == 1:
            return super().prefill(tokens)
        hidden, layers = self.layers.prefill(tokens[:, 1:] - tokens[:, :-1])
        return self.output(hidden), self._memory(tokens[:, -1], layers)

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return ``u^g`` and the new memory."""
        if self.first_token:
            hidden, layers = self.layers.step(token - memory["previous"], memory["layers"])  # previous is 0 at first
            return self.output(hidden), self._memory(token, _masked(layers, memory["started"]))
        valid = memory["started"].unsqueeze(-1).to(token.dtype)
        hidden, layers = self.layers.step(token - memory["previous"], memory["layers"], valid)
        return self.output(hidden) * valid, self._memory(token, layers)

    def _memory(self, token: Tensor, layers: TensorDict) -> TensorDict:
        started = torch.ones(token.shape[0], dtype=torch.bool, device=token.device)
        previous = token.to(torch.promote_types(token.dtype, torch.float32), copy=True)  # autocast may have given less
        new = {"previous": previous, "started": started, "layers": layers}
        return TensorDict(new, batch_size=token.shape[:1], device=token.device)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return ``previous [b d]``, ``started [b]`` (bool) and each layer's memory."""
        weight = next(self.parameters())
        previous = weight.new_zeros(batch_size, self.width)
        started = torch.zeros(batch_size, dtype=torch.bool, device=weight.device)
        new = {"previous": previous, "started": started, "layers": self.layers.initial_memory(batch_size)}
        return TensorDict(new, batch_size=[batch_size], device=weight.device)


def _masked(layers: TensorDict, started: Bool[Tensor, " b"]) -> TensorDict:
    """Return the layers' memories ``[b ..]`` with zeros where the sequence has only started now."""
    masked: TensorDict = layers.apply(
        lambda entry: entry * started.reshape(-1, *(1,) * (entry.ndim - 1)).to(entry.dtype)
    )
    return masked
