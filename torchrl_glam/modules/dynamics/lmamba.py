"""LMamba, GLAM's local branch (section "Inference module"): Mamba over a window of the last tokens.

``b`` batch, ``t`` time, ``d`` width, ``s`` window length, ``x`` any width. It reads ``e_{t-s+1} .. e_t`` from a zero
state and returns ``u^l_t``, the current state. Before the first full window (``t < s - 1``) it reads ``e_0 .. e_t``, or
only ``e_t``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import SequenceBackbone
from torchrl_glam.modules.dynamics.layers import MambaStack, ResidualMamba
from torchrl_glam.modules.signature import passes_on


class LMamba(SequenceBackbone):
    """Local branch ``u^l``: Mamba layers over the last ``window`` tokens from a zero state, then Linear (no bias).

    All windows run in one batched call. The first layer's projection depends on one token only, so it is computed once
    per token, not once per window. The last layer computes only the last output of a window. Slots before the start of
    the sequence hold zeros and leave the state at zero.

    Args:
        width: ``d``.
        num_layers: Mamba layers, chained.
        window: ``s``, tokens in a window, the current one included.
        partial_windows: before the first full window, read the tokens there are; else, as the released code, only the
            current one.
        mamba: keyword arguments of :class:`ResidualMamba`.

    Raises:
        UsageError: if ``num_layers`` or ``window`` is below 1.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import LMamba
        >>> branch = LMamba(32, window=4)
        >>> beliefs, memory = branch(torch.randn(2, 16, 32))
        >>> belief, memory = branch.step(torch.randn(2, 32), memory)
        >>> beliefs.shape, belief.shape
        (torch.Size([2, 16, 32]), torch.Size([2, 32]))
    """

    @passes_on(ResidualMamba)
    def __init__(
        self, width: int = 256, num_layers: int = 1, window: int = 4, *, partial_windows: bool = True, **mamba: Any
    ) -> None:
        super().__init__(width)
        if window < 1:
            raise UsageError(f"window={window}: LMamba sees at least 1 token, the current one")
        self.window, self.partial_windows = window, partial_windows
        self.layers = MambaStack(width, num_layers, **mamba)
        self.output = nn.Linear(width, width, bias=False)
        # A single layer reads the gate and the token only in a window's last slot.
        self.remembered = ("signal", "gate", "token") if num_layers > 1 else ("signal",)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Return ``u^l`` and the memory after the last token."""
        batch, time, _ = tokens.shape
        windows = {
            name: self._windows(entries) if name in self.remembered else entries.flatten(0, 1).unsqueeze(1)
            for name, entries in self._entries(tokens).items()
        }
        valid = self._valid(torch.arange(1, time + 1, device=tokens.device)).to(tokens.dtype)
        last = self._run(windows, valid.repeat(batch, 1, 1)).unflatten(0, (batch, time))
        dtype = self.layers[0].mamba.in_proj.weight.dtype  # autocast may have given less
        ends = {name: windows[name].unflatten(0, (batch, time))[:, -1] for name in self.remembered}
        new = {name: end.to(dtype, copy=True) for name, end in ends.items()}
        new["length"] = torch.full((batch,), min(self.window, time), device=tokens.device)
        return last, TensorDict(new, batch_size=[batch], device=tokens.device)

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return the last ``u^l`` and the memory after the last token; runs one window, not ``t``."""
        memory = self.initial_memory(tokens.shape[0])
        *earlier, last = tokens[:, -self.window :].unbind(1)
        if earlier:
            for name, entries in self._entries(torch.stack(earlier, 1)).items():
                if name in self.remembered:
                    memory[name] = torch.cat([memory[name][:, len(earlier) :], entries], 1)
            memory["length"] = memory["length"] + len(earlier)
        return self.step(last, memory)

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return ``u^l`` and the new memory."""
        windows = {name: entry.unsqueeze(1) for name, entry in self._entries(token).items()}
        for name in self.remembered:
            windows[name] = torch.cat([memory[name][:, 1:], windows[name]], 1)
        length = (memory["length"] + 1).clamp_max(self.window)
        valid = self._valid(length).to(token.dtype)
        new = {name: windows[name] for name in self.remembered}
        memory = TensorDict({**new, "length": length}, batch_size=memory.batch_size, device=memory.device)
        return self._run(windows, valid), memory

    def _entries(self, tokens: Float[Tensor, "*b d"]) -> dict[str, Tensor]:
        """Return the entries of a window, each computed from one token."""
        signal, gate = self.layers[0].project(tokens)
        return {"signal": signal, "gate": gate, "token": tokens}

    def _windows(self, entries: Float[Tensor, "b t x"]) -> Float[Tensor, "b*t s x"]:
        """Return the window that ends at each entry; zeros before the start.

        Not ``unfold``: compiled by torch 2.13 for a CPU, its backward pass wrote beyond its memory.
        """
        time = entries.shape[1]
        padded = nn.functional.pad(entries, (0, 0, self.window - 1, 0))
        return torch.stack([padded[:, age : age + time] for age in range(self.window)], 2).flatten(0, 1)

    def _valid(self, length: Int[Tensor, " n"]) -> Bool[Tensor, "n s 1"]:
        """Return which slots of a window hold one of the ``length`` tokens so far that are read."""
        if not self.partial_windows:
            length = torch.where(length < self.window, length.clamp_max(1), length)
        ages = torch.arange(self.window - 1, -1, -1, device=length.device)
        return (ages < length.unsqueeze(-1)).unsqueeze(-1)

    def _run(self, windows: dict[str, Tensor], valid: Float[Tensor, "n s 1"]) -> Float[Tensor, "n d"]:
        """Run windows ``[n s x]`` and return the output at their last slots.

        ``valid`` is 0 for slots before the start of the sequence, which must leave the state at zero.
        """
        signal, gate, hidden = windows["signal"], windows["gate"], windows["token"]
        for layer, following in pairwise(self.layers):
            inner, _ = layer.mamba.mix(signal, gate, valid)
            hidden = hidden + layer.finish(inner)
            signal, gate = following.project(hidden)
        last = self.layers[-1]
        return self.output(hidden[:, -1] + last.finish(last.mamba.mix_last(signal, gate[:, -1], valid)))

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the last ``signal [b s inner]`` and their number ``length [b]``.

        With more layers than one, also the last ``gate [b s inner]`` and ``token [b s d]``.
        """
        weight = self.layers[0].mamba.in_proj.weight
        widths = {"signal": weight.shape[0] // 2, "gate": weight.shape[0] // 2, "token": self.width}
        new = {name: weight.new_zeros(batch_size, self.window, widths[name]) for name in self.remembered}
        length = torch.zeros(batch_size, dtype=torch.long, device=weight.device)
        return TensorDict({**new, "length": length}, batch_size=[batch_size], device=weight.device)
