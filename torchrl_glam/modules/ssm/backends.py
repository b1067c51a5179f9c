"""The implementations of the selective scan, and the choice of one that can run here."""

from __future__ import annotations

import importlib.util
import os

import torch

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.ssm.cpp_library import find_obstacle

_has_triton = importlib.util.find_spec("triton") is not None
# False for most installations of mamba_ssm 2.3: by default its build leaves this extension out.
_has_mamba_ssm = all(importlib.util.find_spec(name) is not None for name in ("mamba_ssm", "selective_scan_cuda"))
# Triton reads this once, when it is imported, and torch imports Triton.
_interprets_triton = os.environ.get("TRITON_INTERPRET") == "1"

_BACKENDS = ("reference", "torch", "cpp", "triton", "mamba_ssm")


def available_backends(device: torch.device | str | None = None) -> tuple[str, ...]:
    """Return the backends that can run, the oracle first.

    Args:
        device: where they run; any device of this machine by default.

    Examples:
        >>> available_backends("cpu")[:2]
        ('reference', 'torch')
    """
    return tuple(name for name in _BACKENDS if _obstacle(name, device) is None)


def resolve_backend(name: str, device: torch.device | str | None = None) -> str:
    """Return the backend that ``name`` stands for; an explicit choice is kept or refused, never replaced.

    Args:
        name: the name of a backend, or ``"auto"``: ``"triton"`` on a CUDA device if the package triton is installed,
            ``"cpp"`` on a CPU if there is a C++ compiler, otherwise ``"torch"``, which is many times slower (see
            :func:`describe_backend`).
        device: where it runs. Without a device only the name is checked: a backend passes if any device of this
            machine can run it, and ``"auto"`` stands for ``"torch"``.

    Returns:
        One of :func:`available_backends`.

    Raises:
        UsageError: if no backend has this name, or if it cannot run here.

    Examples:
        >>> resolve_backend("torch", "cpu")
        'torch'
    """
    if name == "auto":
        fast = {"cpu": "cpp", "cuda": "triton"}.get(torch.device(device).type) if device is not None else None
        return fast if fast is not None and _obstacle(fast, device) is None else "torch"
    if name in ("reference", "torch"):
        return name
    obstacle = _obstacle(name, device) if name in _BACKENDS else f"There is no scan backend {name!r}"
    if obstacle is None:
        return name
    raise UsageError(f"{obstacle}; use one of: {', '.join(('auto', *available_backends(device)))}.")


def describe_backend(name: str, device: torch.device | str) -> str:
    """Return the backend that ``name`` stands for, and, where ``"auto"`` finds no faster one, what that costs.

    Examples:
        >>> describe_backend("torch", "cpu")
        'torch'
    """
    chosen = resolve_backend(name, device)
    if name == "auto" and chosen == "torch" and torch.device(device).type == "cuda":
        return "torch (no package triton: each time step is several kernels, many times slower; pip install triton)"
    if name == "auto" and chosen == "torch" and torch.device(device).type == "cpu":
        return f"torch ({find_obstacle()}: several times slower)"
    return chosen


def _obstacle(name: str, device: torch.device | str | None) -> str | None:
    """Return why this backend cannot run and what to do about it; None if it can run."""
    on_cuda = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    where = "and there is none here" if device is None else f"not on {str(device)!r}"
    if name == "cpp":
        if device is not None and torch.device(device).type != "cpu":
            return f"The scan backend 'cpp' runs on a CPU, not on {str(device)!r}"
        obstacle = find_obstacle()
        return obstacle and f"The scan backend 'cpp' needs a C++ compiler: {obstacle}; install g++, or name one by CXX"
    if name == "triton":
        if not _has_triton:
            return "The scan backend 'triton' needs the package triton (pip install triton)"
        if not on_cuda and not _interprets_triton:
            return (
                f"The scan backend 'triton' runs on a CUDA device, {where} "
                "(TRITON_INTERPRET=1 in the environment interprets it on a CPU, slowly)"
            )
    if name == "mamba_ssm":
        if not _has_mamba_ssm:
            return (
                "The scan backend 'mamba_ssm' needs the package mamba_ssm with its extension selective_scan_cuda "
                "(MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation 'torchrl_glam[cuda]')"
            )
        if not on_cuda:
            return f"The scan backend 'mamba_ssm' runs on a CUDA device, {where}"
    return None
