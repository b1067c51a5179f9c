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
        previous = token.to(next(self.parameters(), token).dtype, copy=True)  # autocast may have given less
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


class LMamba(nn.Module):
    """Local branch ``u^l``: Mamba layers over the last ``window`` tokens from a zero state, then Linear (no bias).

    All windows run in one batched call. The first layer's projection depends on one token alone, so it is computed
    once per token, not once per window, and of the last layer only the last output of a window exists. Slots before
    the start of the sequence hold zeros and leave the state at zero.

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
        # A single layer looks at the gate and the token of a window's last slot alone.
        self.remembered = ("signal", "gate", "token") if num_layers > 1 else ("signal",)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """``tokens [b t d]`` to ``u^l [b t d]`` and the memory after the last token."""
        batch, time, _ = tokens.shape
        windows = {
            name: self._windows(entries) if name in self.remembered else entries.flatten(0, 1).unsqueeze(1)
            for name, entries in self._entries(tokens).items()
        }
        ages = torch.arange(self.window - 1, -1, -1, device=tokens.device)
        valid = (ages <= torch.arange(time, device=tokens.device).unsqueeze(-1)).unsqueeze(-1).to(tokens.dtype)
        last = self._run(windows, valid.repeat(batch, 1, 1)).unflatten(0, (batch, time))
        dtype = self.layers[0].mamba.in_proj.weight.dtype  # autocast may have given less
        ends = {name: windows[name].unflatten(0, (batch, time))[:, -1] for name in self.remembered}
        new = {name: end.to(dtype, copy=True) for name, end in ends.items()}
        new["length"] = torch.full((batch,), min(self.window, time), device=tokens.device)
        return last, TensorDict(new, batch_size=[batch], device=tokens.device)

    def prefill(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """``tokens [b t d]`` to the last ``u^l [b d]`` and the memory after the last token: one window, not ``t``."""
        memory = self.initial_memory(tokens.shape[0])
        *earlier, last = tokens[:, -self.window :].unbind(1)
        if earlier:
            for name, entries in self._entries(torch.stack(earlier, 1)).items():
                if name in self.remembered:
                    memory[name] = torch.cat([memory[name][:, len(earlier) :], entries], 1)
            memory["length"] = memory["length"] + len(earlier)
        return self.step(last, memory)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """``token [b d]`` to ``u^l [b d]`` and the new memory."""
        windows = {name: entry.unsqueeze(1) for name, entry in self._entries(token).items()}
        for name in self.remembered:
            windows[name] = torch.cat([memory[name][:, 1:], windows[name]], 1)
        length = (memory["length"] + 1).clamp_max(self.window)
        ages = torch.arange(self.window - 1, -1, -1, device=token.device)
        valid = (ages < length.unsqueeze(-1)).unsqueeze(-1).to(token.dtype)
        new = {name: windows[name] for name in self.remembered}
        memory = TensorDict({**new, "length": length}, batch_size=memory.batch_size, device=memory.device)
        return self._run(windows, valid), memory

    def _entries(self, tokens: Tensor) -> dict[str, Tensor]:
        """What a window is made of, each computed from one token ``[.. d]``."""
        signal, gate = self.layers[0].project(tokens)
        return {"signal": signal, "gate": gate, "token": tokens}

    def _windows(self, entries: Tensor) -> Tensor:
        """Entries ``[b t x]`` to the window that ends at each of them, ``[b*t s x]``; zeros before the start.

        Not ``unfold``: compiled by torch 2.13 for a CPU, the backward pass of this one wrote beyond its memory.
        """
        time = entries.shape[1]
        padded = nn.functional.pad(entries, (0, 0, self.window - 1, 0))
        return torch.stack([padded[:, age : age + time] for age in range(self.window)], 2).flatten(0, 1)

    def _run(self, windows: dict[str, Tensor], valid: Tensor) -> Tensor:
        """Run windows ``[n s x]`` and return the output at their last slots, ``[n d]``.

        ``valid [n s 1]`` is 0 for slots before the start of the sequence, which must leave the state at zero.
        """
        signal, gate, hidden = windows["signal"], windows["gate"], windows["token"]
        for layer, following in pairwise(self.layers):
            inner, _ = layer.mamba.mix(signal, gate, valid)
            hidden = hidden + layer.finish(inner)
            signal, gate = following.project(hidden)
        last = self.layers[-1]
        return self.output(hidden[:, -1] + last.finish(last.mamba.mix_last(signal, gate[:, -1], valid)))

    def initial_memory(self, batch_size: int) -> TensorDict:
        """The last ``signal [b s inner]`` (deeper: ``gate``, ``token`` too) and how many they are, ``length [b]``."""
        weight = self.layers[0].mamba.in_proj.weight
        widths = {"signal": weight.shape[0] // 2, "gate": weight.shape[0] // 2, "token": self.width}
        new = {name: weight.new_zeros(batch_size, self.window, widths[name]) for name in self.remembered}
        length = torch.zeros(batch_size, dtype=torch.long, device=weight.device)
        return TensorDict({**new, "length": length}, batch_size=[batch_size], device=weight.device)


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
