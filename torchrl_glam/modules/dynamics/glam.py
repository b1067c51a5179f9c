"""GLAM's two parallel Mambas (GLAM, AAAI 2025, arXiv 2501.11949, section "Inference module").

``b`` batch, ``t`` time, ``d`` width, ``s`` window length. Tokens ``e_t``; variation ``delta_t = e_t - e_{t-1}``.

* GMamba (global) reads ``delta_1 .. delta_t`` and returns ``u^g_t``, what is about to change.
* LMamba (local) reads the window ``e_{t-s+1} .. e_t`` from a zero state and returns ``u^l_t``, where things stand.
* The belief is ``h_t = u^g_t + u^l_t``.

Before the first full window (``t < s - 1``) LMamba runs over the tokens there are. At ``t = 0`` no variation exists:
GMamba's state stays at zero and ``u^g_0 = 0``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import SequenceBackbone
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
        memory = self.initial_memory(tokens.shape[0])
        if hidden.shape[1]:
            for index, layer in enumerate(self.layers):
                hidden, memory["layers", str(index)] = layer(hidden)
        memory["previous"] = tokens[:, -1].clone()
        memory["started"] = torch.ones_like(memory["started"])
        return nn.functional.pad(self.output(hidden), (0, 0, 1, 0)), memory

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """``token [b d]`` to ``u^g [b d]`` and the new memory."""
        valid = memory["started"].unsqueeze(-1).to(token.dtype)
        hidden = token - memory["previous"]
        layers = {}
        for index, layer in enumerate(self.layers):
            hidden, layers[str(index)] = layer.step(hidden, memory["layers", str(index)], valid)
        started = torch.ones_like(memory["started"])
        new = {"previous": token.clone(), "started": started, "layers": layers}
        return self.output(hidden) * valid, TensorDict(new, batch_size=memory.batch_size, device=memory.device)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """``previous [b d]``, ``started [b]`` (bool) and each layer's memory."""
        weight = next(self.parameters())
        previous = weight.new_zeros(batch_size, self.width)
        started = torch.zeros(batch_size, dtype=torch.bool, device=weight.device)
        layers = {str(index): layer.initial_memory(batch_size) for index, layer in enumerate(self.layers)}
        new = {"previous": previous, "started": started, "layers": layers}
        return TensorDict(new, batch_size=[batch_size], device=weight.device)


class LMamba(nn.Module):
    """Local branch ``u^l``: Mamba layers over the last ``window`` tokens from a zero state, then Linear (no bias).

    All windows run in one batched call. The first layer's projection depends on one token alone, so it is computed
    once per token, not once per window, and only the last output of a window is projected.

    Args:
        width: ``d``.
        num_layers: Mamba layers, chained.
        window: ``s``, tokens in a window, the current one included.
        mamba: keyword arguments of :class:`ResidualMamba`.

    Raises:
        UsageError: if ``num_layers`` or ``window`` is below 1.
    """

    def __init__(self, width: int, num_layers: int = 1, window: int = 4, **mamba: Any) -> None:
        super().__init__()
        if window < 1:
            raise UsageError(f"window={window}: LMamba sees at least 1 token, the current one")
        self.width = width
        self.window = window
        self.layers = MambaStack(width, num_layers, **mamba)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """``tokens [b t d]`` to ``u^l [b t d]`` and the memory after the last token."""
        batch, time, _ = tokens.shape
        projected = self.layers[0].project(tokens)

        def windows(sequence: Tensor) -> Tensor:  # (b t x) -> (b*w, s, x)
            return sequence.unfold(1, min(self.window, time), 1).transpose(-1, -2).flatten(0, 1)

        def ends(outputs: Tensor) -> Tensor:  # (b*w, s, x) -> (b t x): the first window whole, then the last of each
            outputs = outputs.unflatten(0, (batch, -1))
            return torch.cat([outputs[:, 0, :-1], outputs[:, :, -1]], 1)

        hidden, inner = self._run(windows(tokens), windows(projected))
        last = ends(hidden) + self.layers[-1].finish(ends(inner))
        memory = self.initial_memory(batch)
        kept = min(self.window, time)
        new = {
            "tokens": torch.cat([memory["tokens"][:, kept:], tokens[:, time - kept :]], 1),
            "projected": torch.cat([memory["projected"][:, kept:], projected[:, time - kept :]], 1),
            "length": torch.full_like(memory["length"], kept),
        }
        return self.output(last), TensorDict(new, batch_size=[batch], device=memory.device)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """``token [b d]`` to ``u^l [b d]`` and the new memory."""
        tokens = torch.cat([memory["tokens"][:, 1:], token.unsqueeze(1)], 1)
        projected = torch.cat([memory["projected"][:, 1:], self.layers[0].project(token).unsqueeze(1)], 1)
        length = (memory["length"] + 1).clamp_max(self.window)
        age = torch.arange(self.window - 1, -1, -1, device=token.device)
        valid = (age < length.unsqueeze(-1)).unsqueeze(-1).to(token.dtype)
        hidden, inner = self._run(tokens, projected, valid)
        last = hidden[:, -1] + self.layers[-1].finish(inner[:, -1])
        new = {"tokens": tokens, "projected": projected, "length": length}
        return self.output(last), TensorDict(new, batch_size=memory.batch_size, device=memory.device)

    def _run(self, hidden: Tensor, projected: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run windows ``[n s d]`` up to the last layer's ``finish``: residual ``[n s d]`` and scan ``[n s inner]``.

        ``valid [n s 1]`` is 0 for slots before the start of the sequence, which must leave the state at zero.
        """
        inner, _ = self.layers[0].mamba.mix(projected, valid)
        for previous, layer in pairwise(self.layers):
            hidden = hidden + previous.finish(inner)
            inner, _ = layer.mamba.mix(layer.project(hidden), valid)
        return hidden, inner

    def initial_memory(self, batch_size: int) -> TensorDict:
        """The last ``tokens [b s d]``, their ``projected [b s 2*inner]`` and how many they are, ``length [b]``."""
        weight = self.layers[0].mamba.in_proj.weight
        new = {
            "tokens": weight.new_zeros(batch_size, self.window, self.width),
            "projected": weight.new_zeros(batch_size, self.window, weight.shape[0]),
            "length": torch.zeros(batch_size, dtype=torch.long, device=weight.device),
        }
        return TensorDict(new, batch_size=[batch_size], device=weight.device)


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
