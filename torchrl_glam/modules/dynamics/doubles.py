"""Two plain branches side by side, which GLAM's Table 2 compares its two Mambas with."""

from __future__ import annotations

from typing import Any

from torchrl_glam.modules.dynamics.layers import ResidualMamba
from torchrl_glam.modules.dynamics.mamba import MambaDynamics
from torchrl_glam.modules.dynamics.parallel import ParallelDynamics
from torchrl_glam.modules.dynamics.transformer import TransformerDynamics
from torchrl_glam.modules.signature import passes_on


class DoubleMamba(ParallelDynamics):
    """Two plain stacks of Mamba layers over all tokens.

    Args:
        width: ``d``.
        global_layers, local_layers: depths of the two.
        mamba: options of :class:`~torchrl_glam.modules.dynamics.layers.ResidualMamba`.
    """

    @passes_on(ResidualMamba)
    def __init__(self, width: int = 256, *, global_layers: int = 1, local_layers: int = 1, **mamba: Any) -> None:
        depths = {"first": global_layers, "second": local_layers}
        super().__init__({name: MambaDynamics(width, num_layers=depth, **mamba) for name, depth in depths.items()})


class DoubleTransformer(ParallelDynamics):
    """Two of STORM's Transformers over all tokens.

    Args:
        width: ``d``.
        global_layers, local_layers: depths of the two.
        num_heads, dropout, max_length: see :class:`~torchrl_glam.modules.TransformerDynamics`.
    """

    def __init__(
        self,
        width: int = 256,
        *,
        global_layers: int = 1,
        local_layers: int = 1,
        num_heads: int = 8,
        dropout: float = 0.1,
        max_length: int | None = None,
    ) -> None:
        depths = {"first": global_layers, "second": local_layers}
        options: dict[str, Any] = {"num_heads": num_heads, "dropout": dropout, "max_length": max_length}
        super().__init__(
            {name: TransformerDynamics(width, num_layers=depth, **options) for name, depth in depths.items()}
        )
