"""The record of what ran: versions, commit, command line, machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import torchrl_glam
from torchrl_glam.config import RunConfig
from torchrl_glam.machine.resources import cpu_name, usable_cores

PACKAGES = ("torchrl", "tensordict", "gymnasium", "ale-py", "numpy", "safetensors")
TIMEOUT = 5.0  # seconds for a command; a network drive may hang


def describe_run(config: RunConfig) -> dict[str, Any]:
    """Return what ran where, for ``run.json``. Never raises: a value that cannot be found out is None.

    Args:
        config: the run's options, of which the seed is noted; ``config.yaml`` holds all of them.

    Examples:
        >>> from torchrl_glam.config import GLAMConfig
        >>> from torchrl_glam.runs.provenance import describe_run
        >>> sorted(describe_run(GLAMConfig()))
        ['command', 'folder', 'git', 'machine', 'seed', 'started', 'versions']
    """
    try:
        folder = os.getcwd()
    except OSError:  # it was removed
        folder = None
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "folder": folder,
        "seed": config.seed,  # all others are derived from it
        **describe_setting(),
    }


def describe_setting() -> dict[str, Any]:
    """Return the code and the machine that numbers come from: ``git``, ``versions``, ``machine``."""
    return {
        "git": git_state(Path(torchrl_glam.__file__)),
        "versions": package_versions(),
        "machine": describe_machine(),
    }


def describe_version(versions: Mapping[str, Any], git: Mapping[str, Any] | None) -> str:
    """Return the package's version in words, with the commit of a checkout.

    Examples:
        >>> from torchrl_glam.runs.provenance import describe_version
        >>> describe_version({"torchrl_glam": "0.1.0"}, {"commit": "e836967c0ffee"})
        'torchrl_glam 0.1.0 (commit e836967)'
    """
    commit = f" (commit {str(git['commit'])[:7]})" if git else ""
    return f"torchrl_glam {versions['torchrl_glam']}{commit}"


def package_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that results depend on; None for one that is missing."""
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "torchrl_glam": torchrl_glam.__version__,
        "torch": str(torch.__version__),  # names its build, 2.14.1+cu130, where a CUDA build's metadata say 2.14.1
    }
    return versions | {package: package_version(package) for package in PACKAGES}


def package_version(package: str) -> str | None:
    """Return the version of an installed package, or of its nightly build, which has another name; None without either.

    Examples:
        >>> from torchrl_glam.runs.provenance import package_version
        >>> package_version("surely-not-installed") is None
        True
    """
    for name in (package, f"{package}-nightly"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return None


def describe_machine() -> dict[str, Any]:
    """Return host, operating system, processor and threads; GPUs, if any, with the versions of CUDA and driver."""
    try:
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except RuntimeError:  # the driver counts them, and then refuses
        gpus = []
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpus else None
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(usable_cores()),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
        "driver": driver.splitlines()[0] if driver else None,
    }


def git_state(file: Path) -> dict[str, Any] | None:
    """Return commit, branch (None: detached) and ``dirty`` of the checkout that tracks ``file``; None without one.

    A package that was installed into a virtual environment inside somebody's checkout is not tracked there. None also
    where git is missing, hangs, or refuses, as it does for another user's checkout ("dubious ownership").
    """
    folder, git = str(file.parent), ("git", "-C")
    if _output(*git, folder, "ls-files", "--error-unmatch", str(file)) is None:
        return None
    commit = _output(*git, folder, "rev-parse", "--verify", "HEAD")
    changes = _output(*git, folder, "status", "--porcelain", "--untracked-files=no")
    branch = _output(*git, folder, "symbolic-ref", "--short", "--quiet", "HEAD")
    return {"commit": commit, "branch": branch, "dirty": None if changes is None else bool(changes)}


def options_hash(options: Mapping[str, Any]) -> str:
    """Return a short hash of the options that does not depend on their order.

    Args:
        options: names and values that JSON can hold, nested as you like; enums count by their value.

    Raises:
        TypeError: for a value that JSON cannot hold.

    Examples:
        >>> from torchrl_glam.runs.provenance import options_hash
        >>> options_hash({"seed": 0, "env": {"name": "ALE/Pong-v5"}})
        '3aba9176d531'
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        raise TypeError(f"{value!r} is a {type(value).__name__}: JSON cannot hold it")

    text = json.dumps(options, sort_keys=True, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _output(*command: str) -> str | None:
    """Return what a command prints; None if it is missing, fails or hangs."""
    # Without git's own variables: in a hook they name the repository that is committed to, whatever the folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # only look
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
