"""A plain Mamba backbone: no variation, no window (a branch of the ablation "two Mambas" of GLAM's Table 2).

``b`` batch, ``t`` time, ``d`` width.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn

from torchrl_glam.modules.dynamics.base import SequenceBackbone
from torchrl_glam.modules.dynamics.layers import MambaStack, ResidualMamba
from torchrl_glam.modules.signature import passes_on


class MambaDynamics(SequenceBackbone):
    """Mamba layers over all tokens so far, chained, then Linear (no bias).

    Args:
        width: ``d``.
        num_layers: Mamba layers.
        mamba: keyword arguments of :class:`ResidualMamba` (post_norm, norm_eps, d_state, d_conv, expand, backend).

    Raises:
        UsageError: if ``num_layers`` is below 1.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import MambaDynamics
        >>> dynamics = MambaDynamics(32, num_layers=2)
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> belief, memory = dynamics.step(torch.randn(2, 32), memory)
        >>> beliefs.shape, belief.shape
        (torch.Size([2, 16, 32]), torch.Size([2, 32]))
    """

    @passes_on(ResidualMamba)
    def __init__(self, width: int = 256, *, num_layers: int = 1, **mamba: Any) -> None:
        super().__init__(width)
        self.layers = MambaStack(width, num_layers, **mamba)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """See :meth:`SequenceBackbone.forward`."""
        hidden, memory = self.layers(tokens)
        return self.output(hidden), memory

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.prefill`."""
        hidden, memory = self.layers.prefill(tokens)
        return self.output(hidden), memory

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        hidden, memory = self.layers.step(token, memory)
        return self.output(hidden), memory

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return each layer's memory, by its number."""
        return self.layers.initial_memory(batch_size)
