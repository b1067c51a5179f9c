"""The Mamba block (arXiv 2312.00752, Fig. 3): projection, causal convolution, selective scan, gate, projection.

``b`` batch, ``t`` time, ``d`` width of the tokens (``d_model``), ``inner`` width inside the block (``d_inner``).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.modules.ssm.backends import resolve_backend
from torchrl_glam.modules.ssm.convolution import causal_convolution, visible_inputs
from torchrl_glam.modules.ssm.cpp_backend import convolve, gated_scan
from torchrl_glam.modules.ssm.initialisation import init_dt_proj
from torchrl_glam.modules.ssm.scan import scan_dtype, selective_scan, selective_scan_last, selective_scan_step


class MambaBlock(nn.Module):
    """The block of "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752, Sec. 3.4).

    Names and shapes of the parameters are those of ``mamba_ssm.Mamba``, so that weights can be moved both ways. The
    memory is a TensorDict ``[b]`` that is passed in and out, never kept:

    * ``conv`` ``[b d_conv-1 inner]``: the last inputs of the convolution, oldest first;
    * ``ssm`` ``[b inner d_state]``: the state of the scan, in at least float32.

    Args:
        d_model: width of the tokens.
        d_state: size n of the state of each channel.
        d_conv: length of the convolution.
        expand: d_inner / d_model.
        dt_rank: rank of the projection to the step size; ``"auto"`` is d_model / 16, rounded up.
        dt_min, dt_max: range of the initial step sizes.
        dt_init, dt_scale, dt_init_floor: see :func:`~torchrl_glam.modules.ssm.initialisation.init_dt_proj`.
        conv_bias: give the convolution a bias.
        bias: give ``in_proj`` and ``out_proj`` a bias.
        backend: of :func:`~torchrl_glam.modules.ssm.selective_scan`.

    Raises:
        ValueError: if ``dt_init`` is unknown.
        UsageError: if the backend is unknown or not available.

    Examples:
        >>> block = MambaBlock(8)
        >>> y, memory = block(torch.randn(2, 5, 8))
        >>> y_next, memory = block.step(torch.randn(2, 8), memory)
        >>> y.shape, y_next.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int | float = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        resolve_backend(backend)
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.backend = backend
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=bias)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, bias=conv_bias)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state))
        self.D = nn.Parameter(torch.empty(self.d_inner))
        # Marked as in mamba_ssm, whose models and training loops look for it.
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined]
        self.A_log._no_weight_decay = self.D._no_weight_decay = True  # type: ignore[attr-defined]
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=bias)
        self._step_sizes = (dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise A, D and the step sizes again (the other layers have a ``reset_parameters`` of their own)."""
        self.A_log.copy_(torch.arange(1, self.d_state + 1).log())  # A = -(1 .. n): S4D-real
        self.D.fill_(1.0)
        init_dt_proj(self.dt_proj, *self._step_sizes)

    def extra_repr(self) -> str:
        return f"d_state={self.d_state}, backend={self.backend!r}, source='Mamba, arXiv 2312.00752'"

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token: zeros, on the device of the parameters."""
        conv = self.A_log.new_zeros(batch_size, self.d_conv - 1, self.d_inner)
        ssm = self.A_log.new_zeros(batch_size, self.d_inner, self.d_state, dtype=scan_dtype(conv))
        return self._memory(conv, ssm)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        memory: TensorDictBase | None = None,
        is_init: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Run a sequence, or several one after another.

        Args:
            x: tokens.
            memory: the memory of an earlier call, to continue from; :meth:`initial_memory` by default.
            is_init: true at the tokens before which the memory is emptied; nowhere by default.

        Returns:
            y, and the memory after the last token.

        Raises:
            ValueError: if the shape of ``x`` does not fit.
        """
        self._check(x, "b t")
        inner, memory = self.mix(*self.project(x), memory=memory, is_init=is_init)
        return self.out_proj(inner), memory

    def project(self, x: Float[Tensor, "*b d"]) -> tuple[Float[Tensor, "*b inner"], Float[Tensor, "*b inner"]]:
        """Apply ``in_proj`` to tokens; return the convolution's input and the gate."""
        signal, gate = self.in_proj(x).chunk(2, dim=-1)
        return signal, gate

    def mix(
        self,
        signal: Float[Tensor, "b t inner"],
        gate: Float[Tensor, "b t inner"],
        valid: Float[Tensor, "b t 1"] | None = None,
        memory: TensorDictBase | None = None,
        is_init: Bool[Tensor, "b t"] | None = None,
    ) -> tuple[Float[Tensor, "b t inner"], TensorDict]:
        """Run the part between ``in_proj`` and ``out_proj``; overlapping windows can share ``in_proj``.

        Args:
            signal, gate: from :meth:`project`, of at least one token.
            valid: 0 for slots before the start of the sequence (all valid ones come after them). These leave the
                memory at zero, as if they did not exist.
            memory, is_init: as for :meth:`forward`.

        Returns:
            The input of ``out_proj``, and the memory after the last token.
        """
        before, state = (None, None) if memory is None else (memory["conv"].to(signal.dtype), memory["ssm"])
        if is_init is None and self._is_fused(signal):
            y, ssm = self._mix_fused(signal, gate, valid, before, state)
            return y, self._memory(self._last_inputs(signal, valid, before), ssm)
        if valid is not None:
            signal = signal * valid
        padded = F.pad(signal, (0, 0, self.d_conv - 1, 0)) if before is None else torch.cat([before, signal], 1)
        kept = padded[:, signal.shape[1] :]
        if is_init is None:
            u = self._convolve(padded)
            y, ssm = selective_scan(u, *self._select(u, valid), self.D, state, backend=self.backend)
            return y * F.silu(gate), self._memory(kept, ssm)
        visible = visible_inputs(is_init, self.d_conv)
        u = self._convolve(padded, visible)
        delta, A, B, C = self._select(u, valid)
        y, ssm = selective_scan(*_restart(u, delta, is_init), A, B, C, None, state, backend=self.backend)
        return (y + self.D * u) * F.silu(gate), self._memory(kept * visible[:, -1, 1:, None], ssm)

    def mix_last(
        self,
        signal: Float[Tensor, "b t inner"],
        gate: Float[Tensor, "b inner"],
        valid: Float[Tensor, "b t 1"] | None = None,
    ) -> Float[Tensor, "b inner"]:
        """Return only the last output of :meth:`mix`, at a lower cost.

        Args:
            signal: as for :meth:`mix`.
            gate: the gate of the last token.
            valid: as for :meth:`mix`.

        Returns:
            The input of ``out_proj`` for the last token.
        """
        if self._is_fused(signal, in_graph=torch.is_grad_enabled()):
            return self._mix_fused(signal, gate[:, None], valid, first=signal.shape[1] - 1)[0].squeeze(1)
        if valid is not None:
            signal = signal * valid
        u = self._convolve(F.pad(signal, (0, 0, self.d_conv - 1, 0)))
        y = selective_scan_last(u, *self._select(u, valid), self.D, backend=self.backend)
        return y * F.silu(gate)

    def step(self, x: Float[Tensor, "b d"], memory: TensorDictBase) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Run one token.

        Args:
            x: the token.
            memory: the memory of the last call, or :meth:`initial_memory`; it is not written to.

        Returns:
            y, and the memory after the token.

        Raises:
            ValueError: if the shape of ``x`` does not fit.
        """
        self._check(x, "b")
        inner, memory = self.mix_step(*self.project(x), memory)
        return self.out_proj(inner), memory

    def mix_step(
        self,
        signal: Float[Tensor, "b inner"],
        gate: Float[Tensor, "b inner"],
        memory: TensorDictBase,
        valid: Float[Tensor, "b 1"] | None = None,
    ) -> tuple[Float[Tensor, "b inner"], TensorDict]:
        """Run the part of :meth:`step` between ``in_proj`` and ``out_proj``.

        Args:
            signal, gate: from :meth:`project`.
            memory: as for :meth:`step`.
            valid: 0 where the sequence has not started yet; there a zero memory stays zero.

        Returns:
            The input of ``out_proj``, and the memory after the token.
        """
        if self._is_fused(signal, in_graph=False):
            new = {"valid": None if valid is None else valid[:, None], "memory": memory}
            inner, memory = self.mix(signal[:, None], gate[:, None], **new)
            return inner.squeeze(1), memory
        if valid is not None:
            signal = signal * valid
        window = torch.cat([memory["conv"].to(signal.dtype), signal[:, None]], dim=1)
        u = self._convolve(window).squeeze(1)
        y, ssm = selective_scan_step(u, *self._select(u, valid), self.D, memory["ssm"], backend=self.backend)
        return y * F.silu(gate), self._memory(window[:, 1:], ssm)

    def _check(self, x: Tensor, layout: str) -> None:
        if x.dim() != len(layout.split()) + 1 or x.shape[-1] != self.d_model or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; wanted [{layout} {self.d_model}], none of them 0.")

    def _is_fused(self, signal: Tensor, in_graph: bool = True) -> bool:
        """Return True to run by the ``cpp`` backend's passes; in a compiled graph, only where ``in_graph``.

        There a compiler fuses what is no loop better than around an operator that it cannot see into.
        """
        if not in_graph and torch.compiler.is_compiling():
            return False
        fits = signal.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(signal.device.type)
        return fits and resolve_backend(self.backend, signal.device) == "cpp"

    def _mix_fused(
        self,
        signal: Tensor,
        gate: Tensor,
        valid: Tensor | None = None,
        before: Tensor | None = None,
        state: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Return the gated outputs from step ``first`` on, and the state after the last."""
        u = convolve(signal, self.conv1d.weight, self.conv1d.bias, before, valid)
        rank, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        scanned = (u, self.dt_proj(rank), -self.A_log.exp(), B, C, self.D)
        return gated_scan(*scanned, state, gate, valid, first=first)

    def _last_inputs(self, signal: Tensor, valid: Tensor | None, before: Tensor | None) -> Tensor:
        """Return the last ``d_conv - 1`` inputs of the convolution."""
        kept, count = self.d_conv - 1, signal.shape[1]
        last = signal[:, max(0, count - kept) :]
        if valid is not None:
            last = last * valid[:, max(0, count - kept) :]
        if count >= kept:
            return last
        return torch.cat(
            [last.new_zeros(len(last), kept - count, self.d_inner) if before is None else before[:, count:], last], 1
        )

    def _convolve(self, padded: Tensor, visible: Tensor | None = None) -> Tensor:
        return F.silu(causal_convolution(padded, self.conv1d.weight, self.conv1d.bias, visible))

    def _select(self, u: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Make delta, A, B and C; all but A depend on ``u``: that is the selection (Algorithm 2).

        A step of size 0 (``valid`` is 0) does not change the state.
        """
        rank, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        A = -self.A_log.to(scan_dtype(self.A_log)).exp()
        delta = F.softplus(self.dt_proj(rank))
        return (delta if valid is None else delta * valid), A, B, C

    def _memory(self, conv: Tensor, ssm: Tensor) -> TensorDict:
        conv = conv.to(self.conv1d.weight.dtype).clone(memory_format=torch.contiguous_format)
        return TensorDict({"conv": conv, "ssm": ssm}, batch_size=conv.shape[:1], device=conv.device)


def _restart(
    u: Float[Tensor, "b t inner"], delta: Float[Tensor, "b t inner"], is_init: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b t inner"], Float[Tensor, "b t inner"]]:
    """Change inputs and step sizes of a scan so that its state is emptied before the tokens of ``is_init``.

    A step of size 2^40 decays any state to exactly 0, in every backend. The input that enters there is divided by this
    size, so that their product stays what it was, to the bit. (Resets inside a batch then need no padding and no
    shapes that depend on the data.)
    """
    restart = is_init.unsqueeze(-1)
    return torch.where(restart, u * delta * 2.0**-40, u), torch.where(restart, 2.0**40, delta)
