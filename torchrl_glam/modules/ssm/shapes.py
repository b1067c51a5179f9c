"""The check of a scan's inputs; it costs a few tuple comparisons and prevents silent broadcasting."""

from __future__ import annotations

from torch import Tensor


def check_shapes(
    layout: str, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> None:
    """Compare every shape with the one that ``u`` and ``A`` require.

    Args:
        layout: the letters of ``u``, ``"b t d"`` or ``"b d"``.
        u: the input; the others as in :mod:`~torchrl_glam.modules.ssm.scan`.

    Raises:
        ValueError: if a shape does not fit.
    """
    if u.dim() != len(layout.split()) or 0 in u.shape:
        raise ValueError(f"u has shape {tuple(u.shape)}; wanted [{layout}], none of them 0.")
    *lead, d = u.shape
    if A.dim() != 2 or A.shape[0] != d:
        raise ValueError(f"A has shape {tuple(A.shape)}; wanted [d n] with d = {d}, as u has shape {tuple(u.shape)}.")
    n = A.shape[1]
    read = (*lead, n)
    wanted = {
        "delta": (delta, (*lead, d)),
        "B": (B, read),
        "C": (C, read),
        "D": (D, (d,)),
        "state": (state, (lead[0], d, n)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; wanted {shape}, as u has shape {tuple(u.shape)} and A "
                f"{tuple(A.shape)}."
            )
