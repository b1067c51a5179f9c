"""kernels.cpp as a shared library: compiled once per machine, kept in the user's cache."""

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

SOURCE = Path(__file__).with_name("kernels.cpp")
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


def load_library() -> ctypes.CDLL:
    """Return the library.

    Raises:
        RuntimeError: if it cannot be made, see :func:`find_obstacle`.
    """
    library, obstacle = _load()
    if library is None:
        raise RuntimeError(obstacle)
    return library


@torch.compiler.assume_constant_result
def find_obstacle() -> str | None:
    """Return why there is no library on this machine, None if there is one; the first call compiles it."""
    return _load()[1]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    try:
        compiler = get_cpp_compiler()
    except (RuntimeError, OSError) as error:
        return None, f"no C++ compiler is found ({first_line(error)})"
    command = [compiler, *FLAGS, "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"]
    try:
        return ctypes.CDLL(str(_compile(command))), None
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        return None, f"{compiler} cannot compile kernels.cpp ({str(output).strip().partition(chr(10))[0]})"


def _compile(command: list[str]) -> Path:
    """Return the library of this source, compiler and processor, from the cache if it is there."""
    code = SOURCE.read_bytes()
    machine = "\n".join([*command, platform.machine(), _processor()])
    name = f"kernels-{hashlib.sha256(code + machine.encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "torchrl_glam")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False)
    except OSError:  # a home that cannot be written to
        folder = Path(tempfile.mkdtemp(prefix="torchrl_glam-"))
        part = tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False)
    path = folder / name
    part.close()
    try:
        if not path.is_file():
            subprocess.run([*command, SOURCE, "-o", part.name], check=True, capture_output=True, text=True, timeout=300)
            os.replace(part.name, path)  # whole or not at all, whoever compiles beside us
    finally:
        Path(part.name).unlink(missing_ok=True)
    return path


def _processor() -> str:
    """Return the processor's features: a library made for one of a cluster's may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
