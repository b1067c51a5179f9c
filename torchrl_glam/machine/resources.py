"""The share of the machine that this process may use, and its use so far."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cpu_name() -> str:
    """Return the processor's model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the GPU's model, or the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"


def usable_cores() -> list[int]:
    """Return the processor cores that this process may run on, by number.

    A container with a limited share of time (``docker run --cpus``) gets as many cores, the first ones of the machine,
    because nothing says which of them it runs on.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    for limit in _own_limits("cpu.max"):
        quota, period = limit.split()
        if quota != "max":
            cores = cores[: max(1, round(int(quota) / int(period)))]
    return cores


def available_memory() -> int:
    """Return the bytes of main memory that this process can still get without swapping, within a container's limits."""
    available = psutil.virtual_memory().available
    for limit, used in zip(_own_limits("memory.max"), _own_limits("memory.current"), strict=False):
        if limit != "max":
            available = min(available, int(limit) - int(used))
    return max(0, available)


def busy_cores(seconds: float = 0.5) -> float:
    """Return how many of the usable cores work now, measured for ``seconds`` in which the caller waits.

    The load average would still count work that ended a minute ago, and miss work that began just now.
    """
    shares = psutil.cpu_percent(seconds, percpu=True)
    usable = [core for core in usable_cores() if core < len(shares)]
    return sum(shares[core] for core in usable) / 100


def reset_peak_memory(device: torch.device) -> None:
    """Give back freed memory, and forget the peak so far."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Return the peak in bytes since :func:`reset_peak_memory`: of tensors on CUDA, else resident memory (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return None
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _own_limits(name: str) -> Iterator[str]:
    """Yield the content of the file ``name`` in the control groups of this process, inner first (Linux, version 2)."""
    groups = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []
    for group in (line.removeprefix("0::/") for line in groups if line.startswith("0::/")):
        folder = CGROUPS / group
        for parent in (folder, *folder.parents):
            if (parent / name).is_file():
                yield (parent / name).read_text().strip()
            if parent == CGROUPS:
                return
