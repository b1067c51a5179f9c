"""GMamba, GLAM's global branch (section "Inference module"): Mamba over how the tokens change.

``b`` batch, ``t`` time, ``d`` width. It reads the variation of the tokens, ``e_1 - e_0`` to ``e_t - e_{t-1}``, and
returns ``u^g_t``, what is about to change. At ``t = 0`` no variation exists: the state stays at zero, ``u^g_0 = 0``.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.modules.dynamics.layers import MambaStack


class GMamba(nn.Module):
    """Global branch ``u^g``: Mamba layers over the variation sequence, then Linear (no bias), LayerNorm, SiLU.

    Layers are chained. (The released code feeds every layer the same input and keeps the last.)

    Args:
        width: ``d``.
        num_layers: Mamba layers.
        mamba: keyword arguments of :class:`ResidualMamba`.
    """

    def __init__(self, width: int, num_layers: int = 1, **mamba: Any) -> None:
        super().__init__()
        self.width = width
        self.layers = MambaStack(width, num_layers, **mamba)
        self.output = nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.SiLU())

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """``tokens [b t d]`` to ``u^g [b t d]`` and the memory after the last token."""
        hidden = tokens[:, 1:] - tokens[:, :-1]
        layers = {}
        for index, layer in enumerate(self.layers):
            if hidden.shape[1]:
                hidden, layers[str(index)] = layer(hidden)
            else:
                layers[str(index)] = layer.initial_memory(tokens.shape[0])
        return nn.functional.pad(self.output(hidden), (0, 0, 1, 0)), self._memory(tokens[:, -1], layers)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """``tokens [b t d]`` to the last ``u^g [b d]`` and the memory after the last token."""
        if tokens.shape[1] == 1:
            changes, memory = self(tokens)
            return changes[:, -1], memory
        hidden = tokens[:, 1:] - tokens[:, :-1]
        *earlier, last = self.layers
        layers = {}
        for index, layer in enumerate(earlier):
            hidden, layers[str(index)] = layer(hidden)
        inner, layers[str(len(earlier))] = last.mamba.mix(*last.project(hidden))
        change = self.output(hidden[:, -1] + last.finish(inner[:, -1]))
        return change, self._memory(tokens[:, -1], layers)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """``token [b d]`` to ``u^g [b d]`` and the new memory."""
        valid = memory["started"].unsqueeze(-1).to(token.dtype)
        hidden = token - memory["previous"]
        layers = {}
        for index, layer in enumerate(self.layers):
            hidden, layers[str(index)] = layer.step(hidden, memory["layers", str(index)], valid)
        return self.output(hidden) * valid, self._memory(token, layers)

    def _memory(self, token: Tensor, layers: dict[str, TensorDict]) -> TensorDict:
        started = torch.ones(token.shape[0], dtype=torch.bool, device=token.device)
        previous = token.to(torch.promote_types(token.dtype, torch.float32), copy=True)  # autocast may have given less
        new = {"previous": previous, "started": started, "layers": layers}
        return TensorDict(new, batch_size=token.shape[:1], device=token.device)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """``previous [b d]``, ``started [b]`` (bool) and each layer's memory."""
        weight = next(self.parameters())
        previous = weight.new_zeros(batch_size, self.width)
        started = torch.zeros(batch_size, dtype=torch.bool, device=weight.device)
        layers = {str(index): layer.initial_memory(batch_size) for index, layer in enumerate(self.layers)}
        new = {"previous": previous, "started": started, "layers": layers}
        return TensorDict(new, batch_size=[batch_size], device=weight.device)
