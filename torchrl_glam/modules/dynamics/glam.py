"""GLAM's two parallel Mambas (GLAM, AAAI 2025, arXiv 2501.11949, section "Inference module")."""

from __future__ import annotations

from typing import Any

from torchrl_glam.modules.dynamics.gmamba import GMamba
from torchrl_glam.modules.dynamics.layers import ResidualMamba
from torchrl_glam.modules.dynamics.lmamba import LMamba
from torchrl_glam.modules.dynamics.parallel import ParallelDynamics
from torchrl_glam.modules.signature import passes_on


class GLAMDynamics(ParallelDynamics):
    """``h_t = u^g_t + u^l_t = GMamba(variations)_t + LMamba(window)_t`` (Fig. 2); ``u^g`` is the variation.

    Args:
        width: ``d``.
        global_layers: depth of GMamba.
        local_layers: depth of LMamba.
        window: tokens in LMamba's window.
        partial_windows: see :class:`~torchrl_glam.modules.LMamba`.
        first_token: see :class:`~torchrl_glam.modules.GMamba`.
        mamba: keyword arguments of :class:`ResidualMamba` (post_norm, norm_eps, d_state, d_conv, expand, backend).

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import GLAMDynamics
        >>> dynamics = GLAMDynamics(width=32)
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> belief, memory = dynamics.step(torch.randn(2, 32), memory)
        >>> beliefs.shape, belief.shape
        (torch.Size([2, 16, 32]), torch.Size([2, 32]))
    """

    gmamba: GMamba
    lmamba: LMamba

    @passes_on(ResidualMamba)
    def __init__(
        self,
        width: int = 256,
        *,
        global_layers: int = 1,
        local_layers: int = 1,
        window: int = 4,
        partial_windows: bool = True,
        first_token: bool = False,
        **mamba: Any,
    ) -> None:
        gmamba = GMamba(width, global_layers, first_token=first_token, **mamba)
        lmamba = LMamba(width, local_layers, window, partial_windows=partial_windows, **mamba)
        super().__init__({"gmamba": gmamba, "lmamba": lmamba}, variation="gmamba")
