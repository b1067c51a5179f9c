"""GLoMa, MambaDM's block (arXiv 2406.02013): Mamba over the whole sequence beside Mamba over each piece of it.

``b`` batch, ``l`` tokens, ``d`` width, ``n`` tokens in a piece (``local_length``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import SequenceBackbone, nest_memories
from torchrl_glam.modules.signature import passes_on
from torchrl_glam.modules.ssm import MambaBlock
from torchrl_glam.offline import acting

FUSIONS: dict[str, tuple[float, float] | None] = {
    "sum": (1.0, 1.0),
    "learned": None,
    "2:1": (4 / 3, 2 / 3),
    "1:2": (2 / 3, 4 / 3),
}
"""The weights of the global and the local branch; they add up to 2."""
BRANCHES = {"both": ("global", "local"), "global": ("global",), "local": ("local",)}


class GlobalBranch(nn.Module):
    """``Mamba(Norm(x))`` over the whole sequence.

    Args:
        width: ``d``.
        mamba: keyword arguments of :class:`~torchrl_glam.modules.MambaBlock`.
    """

    def __init__(self, width: int, **mamba: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mamba = MambaBlock(width, **mamba)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """Map ``tokens [b l d]`` to ``[b l d]`` and the memory after the last token."""
        return self.mamba(self.norm(tokens))

    def step(self, token: Tensor, memory: TensorDictBase) -> tuple[Tensor, TensorDict]:
        """Map ``token [b d]`` to ``[b d]`` and the new memory."""
        return self.mamba.step(self.norm(token), memory)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token."""
        return self.mamba.initial_memory(batch_size)


class LocalBranch(GlobalBranch):
    """``Mamba(Norm(x))`` over each piece of ``n`` tokens by itself, from a zero state.

    Pieces are counted from the first token; the last one may be shorter. The memory is Mamba's, and ``position [b]``,
    the tokens in the piece so far: at 0 a piece begins, and Mamba's memory is cleared.

    Args:
        width: ``d``.
        length: ``n``.
        mamba: keyword arguments of :class:`~torchrl_glam.modules.MambaBlock`.

    Raises:
        UsageError: if ``length`` is below 1.
    """

    def __init__(self, width: int, length: int, **mamba: Any) -> None:
        if length < 1:
            raise UsageError(f"local_length={length}: a piece of the sequence has at least 1 token")
        super().__init__(width, **mamba)
        self.length = length

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """See :class:`GlobalBranch`; all whole pieces run in one batched call, the rest in another."""
        (batch, count, _), hidden = tokens.shape, self.norm(tokens)
        whole = count - count % self.length
        outputs, memory = [], self.initial_memory(0)
        if whole:
            pieces = hidden[:, :whole].unflatten(1, (-1, self.length)).flatten(0, 1)  # (b l/n, n, d)
            output, memories = self.mamba(pieces)
            outputs.append(output.unflatten(0, (batch, -1)).flatten(1, 2))
            memory = memories.reshape(batch, -1)[:, -1].clone()  # not a view, which would keep those of all pieces
        if count > whole:
            output, memory = self.mamba(hidden[:, whole:])
            outputs.append(output)
        position = torch.full((batch,), count - whole, device=tokens.device)
        return torch.cat(outputs, 1), self._memory(memory, position)

    def step(self, token: Tensor, memory: TensorDictBase) -> tuple[Tensor, TensorDict]:
        """See :class:`GlobalBranch`; elements of the batch may be at different places of their pieces."""
        begins = (memory["position"] == 0)[:, None, None]
        before = {name: memory[name].masked_fill(begins, 0.0) for name in ("conv", "ssm")}
        output, after = self.mamba.step(self.norm(token), TensorDict(before, batch_size=memory.batch_size))
        return output, self._memory(after, (memory["position"] + 1) % self.length)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token: zeros."""
        memory = self.mamba.initial_memory(batch_size)
        return self._memory(memory, torch.zeros(batch_size, dtype=torch.long, device=memory.device))

    @staticmethod
    def _memory(memory: TensorDictBase, position: Tensor) -> TensorDict:
        new = {"conv": memory["conv"], "ssm": memory["ssm"], "position": position}
        return TensorDict(new, batch_size=position.shape, device=position.device)


class GLoMa(nn.Module):
    """Global-local fusion Mamba: ``x = x + Global(x) + Local(x)``, then ``x = x + FeedForward(Norm(x))``.

    Both branches have a norm of their own in front and none behind. The feed-forward network is four times as wide,
    with GELU. The memory is that of the branches, by name.

    Args:
        width: ``d``.
        local_length: ``n``, tokens in a piece of the local branch. (We do not know the paper's; the default is two
            steps of three tokens.)
        fusion: ``sum`` (1:1, as in the paper), ``2:1`` or ``1:2`` (global to local, weights that add up to 2), or
            ``learned``: each branch times a learned scalar, 1 at first.
        branches: ``both``, or only ``global`` or ``local``: the paper's ablation.
        dropout: probability, of the outputs of branches and feed-forward network, in training mode.
        d_state, d_conv, expand, backend: of both branches, see :class:`~torchrl_glam.modules.MambaBlock`.
        global_d_state, global_d_conv, global_expand, local_d_state, local_d_conv, local_expand: of one branch, where
            it is to differ.

    Raises:
        UsageError: if ``fusion`` or ``branches`` is unknown, ``fusion`` weighs branches where there is one, an option
            is of a branch that is not there, or ``local_length`` is below 1.

    Examples:
        >>> import torch
        >>> from torchrl_glam.offline.gloma import GLoMa
        >>> block = GLoMa(32).eval()
        >>> outputs, memory = block(torch.randn(2, 16, 32))
        >>> output, memory = block.step(torch.randn(2, 32), memory)
        >>> outputs.shape, output.shape, memory["local", "position"]
        (torch.Size([2, 16, 32]), torch.Size([2, 32]), tensor([5, 5]))
    """

    def __init__(
        self,
        width: int,
        *,
        local_length: int = 6,
        fusion: str = "sum",
        branches: str = "both",
        dropout: float = 0.1,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        global_d_state: int | None = None,
        global_d_conv: int | None = None,
        global_expand: int | None = None,
        local_d_state: int | None = None,
        local_d_conv: int | None = None,
        local_expand: int | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise UsageError(f"fusion is {fusion!r}: choose one of {', '.join(FUSIONS)}")
        if branches not in BRANCHES:
            raise UsageError(f"branches is {branches!r}: choose one of {', '.join(BRANCHES)}")
        if fusion != "sum" and branches != "both":
            raise UsageError(f"fusion={fusion!r} weighs two branches, branches is {branches!r}: leave out one of these")
        common: dict[str, Any] = {"d_state": d_state, "d_conv": d_conv, "expand": expand}
        own: dict[str, dict[str, int | None]] = {
            "global": {"d_state": global_d_state, "d_conv": global_d_conv, "expand": global_expand},
            "local": {"d_state": local_d_state, "d_conv": local_d_conv, "expand": local_expand},
        }
        made: dict[str, GlobalBranch] = {}
        for name, options in own.items():
            given = {option: value for option, value in options.items() if value is not None}
            if name in BRANCHES[branches]:
                mamba = {**common, **given, "backend": backend}
                made[name] = (
                    GlobalBranch(width, **mamba) if name == "global" else LocalBranch(width, local_length, **mamba)
                )
            elif given:
                option, value = next(iter(given.items()))
                raise UsageError(f"{name}_{option}={value}: branches is {branches!r}, leave out one of these")
        self.branches = nn.ModuleDict(made)
        self.weights: nn.Parameter | Tensor | None = None
        if fusion == "learned":
            self.weights = nn.Parameter(torch.ones(2))
        elif fusion != "sum":
            del self.weights
            self.register_buffer("weights", torch.tensor(FUSIONS[fusion]), persistent=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Set the weights of a learned fusion to 1; all others are in layers with a ``reset_parameters``."""
        if isinstance(self.weights, nn.Parameter):
            nn.init.ones_(self.weights)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """Map ``tokens [b l d]`` to ``[b l d]`` and the memory after the last token."""
        outputs, memories = [], {}
        for name, branch in self.branches.items():
            output, memories[name] = branch(tokens)
            outputs.append(output)
        return self._fuse(tokens, outputs), nest_memories(memories)

    def step(self, token: Tensor, memory: TensorDictBase) -> tuple[Tensor, TensorDict]:
        """Map ``token [b d]`` to ``[b d]`` and the new memory; the given one is not changed."""
        outputs, memories = [], {}
        for name, branch in self.branches.items():
            output, memories[name] = cast(GlobalBranch, branch).step(token, memory[name])
            outputs.append(output)
        return self._fuse(token, outputs), nest_memories(memories)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token: zeros."""
        return nest_memories(
            {name: cast(GlobalBranch, branch).initial_memory(batch_size) for name, branch in self.branches.items()}
        )

    def _fuse(self, tokens: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        if self.weights is not None:
            outputs = [weight * output for weight, output in zip(self.weights.unbind(), outputs, strict=True)]
        first, *others = outputs
        tokens = tokens + self.dropout(sum(others, start=first))
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))


class GLoMaStack(SequenceBackbone):
    """Blocks of :class:`GLoMa`, chained, and a LayerNorm at the end. The memory is theirs, by number.

    Args:
        width: ``d``.
        num_layers: blocks.
        gloma: keyword arguments of :class:`GLoMa`.

    Raises:
        UsageError: if ``num_layers`` is below 1, and as :class:`GLoMa` does.

    Examples:
        >>> from torchrl_glam.modules import check_backbone
        >>> from torchrl_glam.offline.gloma import GLoMaStack
        >>> check_backbone(GLoMaStack(32, num_layers=2, local_length=4))
    """

    @passes_on(GLoMa)
    def __init__(self, width: int = 128, *, num_layers: int = 3, **gloma: Any) -> None:
        super().__init__(width)
        if num_layers < 1:
            raise UsageError(f"num_layers={num_layers}: give at least 1 block")
        self.layers = nn.ModuleList(GLoMa(width, **gloma) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.forward`."""
        memories = {}
        for index, layer in enumerate(self.layers):
            tokens, memories[str(index)] = layer(tokens)
        return self.norm(tokens), nest_memories(memories)

    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        new = {}
        for index, layer in enumerate(self.layers):
            token, new[str(index)] = cast(GLoMa, layer).step(token, memory[str(index)])
        return self.norm(token), nest_memories(new)

    def extend(self, tokens: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """See :meth:`SequenceBackbone.extend`: by one call for all layers where they act on a CPU."""
        if not acting.suits(self, tokens):
            return super().extend(tokens, memory)
        beliefs, memory = acting.extend(self, tokens, memory)
        return beliefs[:, -1], memory

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return each block's memory, by its number: zeros."""
        layers = cast(Sequence[GLoMa], self.layers)
        return nest_memories({str(index): layer.initial_memory(batch_size) for index, layer in enumerate(layers)})
