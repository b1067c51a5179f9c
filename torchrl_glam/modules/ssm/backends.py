"""Which implementations of the selective scan there are, and which of them can run here."""

from __future__ import annotations

from torchrl_glam.errors import UsageError

_PLANNED = ("triton", "mamba_ssm")


def available_backends() -> tuple[str, ...]:
    """The backends that can run on this machine, the oracle first.

    Examples:
        >>> available_backends()
        ('reference', 'torch')
    """
    return ("reference", "torch")


def resolve_backend(name: str) -> str:
    """The backend that ``name`` stands for; an explicit choice is kept or refused, never replaced.

    Args:
        name: ``"auto"`` or the name of a backend.

    Returns:
        One of :func:`available_backends`.

    Raises:
        UsageError: if no backend has this name, or if it is not implemented yet.

    Examples:
        >>> resolve_backend("auto")
        'torch'
    """
    if name == "auto":
        return "torch"
    available = available_backends()
    if name in available:
        return name
    choices = ", ".join(("auto", *available))
    if name in _PLANNED:
        raise UsageError(f"The scan backend {name!r} is planned, not implemented yet; use one of: {choices}.")
    raise UsageError(f"There is no scan backend {name!r}; use one of: {choices}.")
