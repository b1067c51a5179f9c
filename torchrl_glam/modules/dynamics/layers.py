"""Mamba layers with their residual and norms, and a stack of them.

``b`` batch, ``t`` time, ``d`` width, ``inner`` width inside the Mamba block; ``*b`` any leading shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from jaxtyping import Bool, Float
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import nest_memories
from torchrl_glam.modules.ssm import MambaBlock


class ResidualMamba(nn.Module):
    """One Mamba layer between norms: ``u = e + Norm(Mamba(Norm(e)))`` (Eq. 6).

    Args:
        width: ``d``.
        post_norm: use the outer norm. The released code has none: ``u = e + Mamba(Norm(e))``.
        norm_eps: epsilon of the inner norm; 1e-6 in the released code.
        d_state, d_conv, expand, backend: see :class:`~torchrl_glam.modules.MambaBlock`.
    """

    def __init__(
        self,
        width: int,
        *,
        post_norm: bool = True,
        norm_eps: float = 1e-5,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mamba = MambaBlock(width, d_state=d_state, d_conv=d_conv, expand=expand, backend=backend)
        self.post_norm = nn.LayerNorm(width) if post_norm else nn.Identity()

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        memory: TensorDict | None = None,
        is_init: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Return the layer's output and its memory; ``memory`` and ``is_init`` as for ``MambaBlock.forward``."""
        inner, memory = self.mamba.mix(*self.project(tokens), memory=memory, is_init=is_init)
        return tokens + self.finish(inner), memory

    def step(
        self, token: Float[Tensor, "b d"], memory: TensorDict, valid: Float[Tensor, "b 1"] | None = None
    ) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return the output and the new memory; where ``valid`` is 0 the memory does not change."""
        inner, memory = self.mamba.mix_step(*self.project(token), memory, valid)
        return token + self.finish(inner), memory

    def project(self, tokens: Float[Tensor, "*b d"]) -> tuple[Float[Tensor, "*b inner"], Float[Tensor, "*b inner"]]:
        """Run the part before the convolution, which sees each token alone; return signal and gate."""
        return self.mamba.project(self.norm(tokens))

    def finish(self, inner: Float[Tensor, "*b inner"]) -> Float[Tensor, "*b d"]:
        """Run the part after the scan, without the residual."""
        return self.post_norm(self.mamba.out_proj(inner))

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token."""
        return self.mamba.initial_memory(batch_size)


class MambaStack(nn.ModuleList):
    """Layers of :class:`ResidualMamba`, chained. The memory holds theirs, by number.

    Args:
        width: ``d``.
        num_layers: number of layers.
        mamba: keyword arguments of :class:`ResidualMamba`.

    Raises:
        UsageError: if ``num_layers`` is below 1.
    """

    def __init__(self, width: int, num_layers: int, **mamba: Any) -> None:
        if num_layers < 1:
            raise UsageError(f"num_layers={num_layers}: a Mamba branch has at least 1 layer")
        super().__init__(ResidualMamba(width, **mamba) for _ in range(num_layers))

    def __iter__(self) -> Iterator[ResidualMamba]:
        return cast(Iterator[ResidualMamba], super().__iter__())

    def __getitem__(self, index: int) -> ResidualMamba:  # type: ignore[override]  # no slices here
        return cast(ResidualMamba, super().__getitem__(index))

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        memory: TensorDict | None = None,
        is_init: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Return the last layer's output and the memory; ``memory`` and ``is_init`` as for a layer."""
        memories: dict[str, TensorDict] = {}
        for index, layer in enumerate(self):
            before = None if memory is None else memory[str(index)]
            tokens, memories[str(index)] = layer(tokens, before, is_init)
        return tokens, nest_memories(memories)

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Run as ``forward``, but return only the last output: the last layer finishes no other."""
        *earlier, last = self
        memories = {}
        for index, layer in enumerate(earlier):
            tokens, memories[str(index)] = layer(tokens)
        inner, memories[str(len(earlier))] = last.mamba.mix(*last.project(tokens))
        return tokens[:, -1] + last.finish(inner[:, -1]), nest_memories(memories)

    def step(
        self, token: Float[Tensor, "b d"], memory: TensorDict, valid: Float[Tensor, "b 1"] | None = None
    ) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Return the last layer's output and the new memory; ``valid`` as for a layer."""
        new: dict[str, TensorDict] = {}
        for index, layer in enumerate(self):
            token, new[str(index)] = layer.step(token, memory[str(index)], valid)
        return token, nest_memories(new)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token."""
        return nest_memories({str(index): layer.initial_memory(batch_size) for index, layer in enumerate(self)})
