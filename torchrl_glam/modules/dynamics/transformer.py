"""STORM's Transformer backbone (arXiv 2310.09615, section 3.2 and Table 5), with a memory of keys and values.

With ``norm_first`` it is built like GPT-2, which the Decision Transformer (arXiv 2106.01345) uses.

``b`` batch, ``t`` time, ``d`` width, ``m`` slots of the memory (``max_length``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import SequenceBackbone

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class TransformerLayer(nn.Module):
    """``x = LayerNorm(x + Attention(x))``, then ``x = LayerNorm(x + FeedForward(x))``; dropout only in training.

    Args:
        width: ``d``.
        num_heads: attention heads, a divisor of ``width``.
        dropout: probability, for attention weights and for what each part adds.
        norm_first: use ``x = x + Attention(LayerNorm(x))``, then ``x = x + FeedForward(LayerNorm(x))`` instead.
        expand: width of the feed-forward network, in multiples of ``d``.
        activation: of the feed-forward network, ``relu`` or ``gelu``.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float,
        norm_first: bool = False,
        expand: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_first = norm_first
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        inner = expand * width
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), ACTIVATIONS[activation](), nn.Linear(inner, width))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def remember(self, tokens: Float[Tensor, "b t d"]) -> dict[str, Float[Tensor, "b t d"]]:
        """Return the tokens' ``keys`` and ``values``, heads side by side."""
        keys, values = self.key_value(self._before(tokens)).chunk(2, dim=-1)
        return {"keys": keys, "values": values}

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        entries: dict[str, Float[Tensor, "b m d"]],
        filled: Bool[Tensor, "b m"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "b t d"]:
        """Return the layer's output; the tokens attend to the entries.

        Args:
            tokens: they make the queries.
            entries: keys and values, from :meth:`remember`.
            filled: which entries to attend to; all of them if not given.
            causal: let token ``t`` see only the entries up to ``t``.
        """
        mixed = functional.scaled_dot_product_attention(
            self._heads(self.query(self._before(tokens))),
            self._heads(entries["keys"]),
            self._heads(entries["values"]),
            attn_mask=None if filled is None else filled[:, None, None],
            dropout_p=self.dropout.p if self.training else 0.0,
            is_causal=causal,
        )
        mixed = self.output(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + self.dropout(mixed)
        if self.norm_first:
            return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        tokens = self.attention_norm(tokens)
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))

    def _before(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return the input of attention."""
        return self.attention_norm(tokens) if self.norm_first else tokens

    def _heads(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b heads t d//heads"]:
        """Split the width into heads."""
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TransformerDynamics(SequenceBackbone):
    """Causal Transformer with a learned embedding of the absolute position and norms after the residuals.

    The memory holds each layer's keys and values ``[b m d]`` and the number of filled slots, ``length [b]``. Its shapes
    never change, and elements of a batch may have different lengths. It is full after ``max_length`` tokens: make that
    enough for the longest sequence, and for context and horizon of imagination together.

    Args:
        width: ``d``.
        num_layers: Transformer layers. (STORM has 2; GLAM's ablation, with 1 Mamba layer in a branch, compares with 1.)
        num_heads: attention heads.
        dropout: probability, in training mode.
        max_length: length of the longest sequence, ``m``; 64 if not given (a run gives its own longest one).
        norm_first: place norms before attention and feed-forward network, and one at the end instead of the norm of
            the embedded tokens, as in GPT-2.
        expand: width of the feed-forward network, in multiples of ``d``.
        activation: of the feed-forward network, ``relu`` or ``gelu``.

    Raises:
        UsageError: if ``num_heads`` does not divide ``width``, if ``num_layers``, ``max_length`` or ``expand`` is below
            1, or if ``activation`` is unknown.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import TransformerDynamics
        >>> dynamics = TransformerDynamics(32, max_length=17).eval()
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> belief, memory = dynamics.step(torch.randn(2, 32), memory)
        >>> beliefs.shape, belief.shape, memory["length"]
        (torch.Size([2, 16, 32]), torch.Size([2, 32]), tensor([17, 17]))
    """

    def __init__(
        self,
        width: int = 256,
        *,
        num_layers: int = 1,
        num_heads: int = 8,
        dropout: float = 0.1,
        max_length: int | None = None,
        norm_first: bool = False,
        expand: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__(width)
        max_length = 64 if max_length is None else max_length
        if num_layers < 1 or max_length < 1:
            raise UsageError(f"num_layers={num_layers} and max_length={max_length}: at least 1 of each is wanted")
        if num_heads < 1 or width % num_heads:
            raise UsageError(f"num_heads={num_heads} does not divide width={width}: choose a divisor")
        if expand < 1 or activation not in ACTIVATIONS:
            wanted = f"at least 1, and one of {', '.join(ACTIVATIONS)}, are wanted"
            raise UsageError(f"expand={expand} and activation={activation!r}: {wanted}")
        self.max_length = max_length
        self.positions = nn.Parameter(torch.empty(max_length, width))
        self.reset_parameters()
        self.norm = nn.Identity() if norm_first else nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        options = (width, num_heads, dropout, norm_first, expand, activation)
        layers = nn.ModuleList(TransformerLayer(*options) for _ in range(num_layers))
        self.layers = cast(Sequence[TransformerLayer], layers)
        self.final_norm = nn.LayerNorm(width) if norm_first else nn.Identity()

    def reset_parameters(self) -> None:
        """Draw the embedding of positions, small beside tokens of about 1, which it would otherwise hide.

        The paper gives no scale.
        """
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """See :meth:`SequenceBackbone.forward`.

        Raises:
            UsageError: if there are more than ``max_length`` tokens.
        """
        return self._run(tokens)

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.prefill`; in the last layer only the last token makes a query."""
        beliefs, memory = self._run(tokens, only_last=True)
        return beliefs[:, -1], memory

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.step`.

        Raises:
            RuntimeError: if the memory is full; on CUDA as a device-side assertion, some time later.
        """
        length = memory["length"]
        # No Python branch, which would wait for the GPU and could not be compiled.
        torch._assert_async(
            (length < self.max_length).all(),
            f"TransformerDynamics remembers max_length={self.max_length} tokens, no more: choose a greater max_length",
        )
        slots, position = torch.arange(self.max_length, device=length.device), length.unsqueeze(-1)
        hidden, layers = self._place(token.unsqueeze(1), position), {}
        for index, layer in enumerate(self.layers):
            old, entry = memory["layers", str(index)], layer.remember(hidden)
            here = (slots == position).unsqueeze(-1)
            layers[str(index)] = {name: torch.where(here, entry[name], old[name]) for name in entry}
            hidden = layer(hidden, layers[str(index)], slots <= position)
        return self.final_norm(hidden.squeeze(1)), self._memory(layers, length + 1)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return empty ``keys`` and ``values`` of every layer, and ``length`` 0."""
        layers = {
            str(index): {
                name: self.positions.new_zeros(batch_size, *self.positions.shape) for name in ("keys", "values")
            }
            for index in range(len(self.layers))
        }
        return self._memory(layers, torch.zeros(batch_size, dtype=torch.long, device=self.positions.device))

    def _run(self, tokens: Tensor, only_last: bool = False) -> tuple[Tensor, TensorDict]:
        batch, time, _ = tokens.shape
        if time > self.max_length:
            raise UsageError(f"{time} tokens came and max_length is {self.max_length}: choose a greater max_length")
        hidden, layers = self._place(tokens, torch.arange(time, device=tokens.device)), {}
        for index, layer in enumerate(self.layers):
            entries = layer.remember(hidden)
            layers[str(index)] = {name: self._pad(entry) for name, entry in entries.items()}
            last = only_last and index == len(self.layers) - 1
            hidden = layer(hidden[:, -1:], entries) if last else layer(hidden, entries, causal=True)
        return self.final_norm(hidden), self._memory(layers, torch.full((batch,), time, device=tokens.device))

    def _place(self, tokens: Float[Tensor, "b t d"], positions: Int[Tensor, "*b t"]) -> Float[Tensor, "b t d"]:
        """Add the embedding of the positions, ``[t]`` or ``[b t]``, and normalise."""
        return self.dropout(self.norm(tokens + self.positions[positions]))

    def _pad(self, entries: Float[Tensor, "b t d"]) -> Float[Tensor, "b m d"]:
        """Pad keys or values to the slots of the memory."""
        dtype = self.positions.dtype  # autocast may have given less
        return functional.pad(entries.to(dtype), (0, 0, 0, self.max_length - entries.shape[1]))

    @staticmethod
    def _memory(layers: dict[str, dict[str, Tensor]], length: Tensor) -> TensorDict:
        return TensorDict({"layers": layers, "length": length}, batch_size=length.shape, device=length.device)
