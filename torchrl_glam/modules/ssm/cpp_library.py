"""C++ of this package as shared libraries: compiled once per machine, kept in the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch._inductor.cpp_builder import get_cpp_compiler

from torchrl_glam.errors import first_line

KERNELS = Path(__file__).with_name("kernels.cpp")
HEADER = KERNELS.with_name("vectors.h")
FLAGS = [
    "-O3",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
]
CACHE = "TORCHRL_GLAM_CACHE"
"""The environment variable that names another folder than ``~/.cache/torchrl_glam``."""


def load_library(source: Path = KERNELS) -> ctypes.CDLL:
    """Return the library of a source.

    Raises:
        RuntimeError: if it cannot be made, see :func:`find_obstacle`.
    """
    library, obstacle = _load(source)
    if library is None:
        raise RuntimeError(obstacle)
    return library


@torch.compiler.assume_constant_result
def find_obstacle() -> str | None:
    """Return why there is no library on this machine, None if there is one; the first call compiles it."""
    return _load(KERNELS)[1]


@functools.cache
def _load(source: Path) -> tuple[ctypes.CDLL | None, str | None]:
    try:
        compiler = get_cpp_compiler()
    except (RuntimeError, OSError) as error:
        return None, f"no C++ compiler is found ({first_line(error)})"
    machine = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    try:
        return ctypes.CDLL(str(_compile(source, [compiler, *FLAGS, machine]))), None
    except (OSError, subprocess.SubprocessError) as error:
        output = str(getattr(error, "stderr", None) or error).strip()
        return None, f"{compiler} cannot compile {source.name} ({output.partition(chr(10))[0]})"


def _compile(source: Path, command: list[str]) -> Path:
    """Return the library of this source, compiler and processor, from the cache if it is there."""
    machine = "\n".join([*command, platform.machine(), _processor()])
    digest = hashlib.sha256(source.read_bytes() + HEADER.read_bytes() + machine.encode()).hexdigest()
    folder = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "torchrl_glam")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, part = tempfile.mkstemp(".part", dir=folder)
    except OSError:  # a home that cannot be written to
        folder = Path(tempfile.mkdtemp(prefix="torchrl_glam-"))
        handle, part = tempfile.mkstemp(".part", dir=folder)
    os.close(handle)
    path = folder / f"{source.stem}-{digest[:16]}.so"
    try:
        if not path.is_file():
            call = [*command, f"-I{HEADER.parent}", str(source), "-o", part]
            subprocess.run(call, check=True, capture_output=True, text=True, timeout=300)
            os.replace(part, path)  # whole or not at all, whoever compiles beside us
    finally:
        Path(part).unlink(missing_ok=True)
    return path


def _processor() -> str:
    """Return the processor's features: a library made for one of a cluster's may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
