"""Runs of the example in processes of their own, and the files that they leave."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.paths import EXAMPLES, ROOT
from torchrl_glam.config.quoting import write_override
from torchrl_glam.runs.checkpoint import read_records, read_state

EXAMPLE = EXAMPLES / "glam_atari.py"
CATCH = "env.name=tests.support.games:CatchBall-v0"
TINY = [
    "preset=debug",
    CATCH,
    "world_model.channels=[2,2,2,2]",
    "world_model.num_categoricals=4",
    "world_model.num_classes=4",
    "world_model.dynamics.width=8",
    "world_model.dynamics.d_state=2",
    "agent.hidden=8",
    "replay.batch_length=8",
    "imagination.horizon=2",
    "training.warmup_frames=20",
    "training.log_every=5",
]
OPTIONS = [*TINY, "total_frames=40", "checkpoint.every=2", "checkpoint.keep=16"]

ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
"""One thread: the numbers are then the same on every machine, and two runs at once do not disturb each other."""

STATES = ("collector", "policy", "random_state", "world_model")  # of a checkpoint, equal if the runs were


def command(folder: Path, *options: str) -> list[str]:
    """Return the words that a user types."""
    return [sys.executable, str(EXAMPLE), *options, write_override("run_dir", str(folder))]


def start(folder: Path, *options: str, log: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own; all that it says goes to ``log``."""
    with log.open("w") as file:
        return subprocess.Popen(
            command(folder, *options),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own, to its end."""
    words = command(folder, *options)
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=3000)


@dataclass
class Ran:
    """The end of a run in this process: its exit status, and the lines that it wrote."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def error(self) -> str:
        """The line of an error, which must be one."""
        assert self.status == 2, (self.status, self.err)
        (line,) = self.err
        return line

    @property
    def skipped(self) -> list[str]:
        """The lines on skipped checkpoints."""
        return [line for line in self.out if "is skipped" in line]

    def check_done(self) -> Ran:
        """Assert that it ended without an error."""
        assert (self.status, self.err) == (0, []), self
        return self

    def resumed_from(self) -> int:
        """Return the step that the run resumed from."""
        (line,) = (line for line in self.out if line.startswith("resumes from step"))
        return int(line.split()[3])


def lines(text: str) -> list[str]:
    """Return the lines of a terminal, where a progress bar begins a new one at each carriage return."""
    return text.replace("\r", "\n").strip().splitlines()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str], timeout: float = 120) -> bool:
    """Wait until it holds; False if the process ends before."""
    deadline = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return True


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first, finished ones only."""
    return sorted((folder / "checkpoints").glob("checkpoint-*"))


def outcome(folder: Path) -> dict[str, Any]:
    """Return all that must be equal, bit for bit, however often a run was interrupted."""
    newest = checkpoints(folder)[-1]
    found = {name: read_state(newest.joinpath(_part(newest, name), "state.safetensors")) for name in STATES}
    del found["random_state"]["python"]  # rich, where it is installed, draws from it when first imported
    states = {f"state of {name}": _digest(*_pieces(state)) for name, state in found.items()}
    held = read_state(newest.joinpath(_part(newest, "replay"), "state.safetensors"))
    records = read_records(folder, held["written"] - min(held["written"], held["capacity"])).flatten_keys(".")
    scalars = folder / "metrics" / "scalars"
    metrics = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(scalars.rglob("*.csv"))
        if path.relative_to(scalars).parts[0] != "system"  # seconds and memory
    }
    return {
        "weights": _digest((folder / "weights.safetensors").read_bytes()),
        **{f"records: {key}": _digest(entry.numpy().tobytes()) for key, entry in records.items()},
        "number of records": len(records),
        "returns": json.loads((folder / "result.json").read_text())["returns"],
        **states,
        **metrics,
    }


@dataclass
class Finished:
    """A run with 16 checkpoints, of steps 10 to 40, and its outcome."""

    folder: Path
    outcome: dict[str, Any]

    def copy_to(self, folder: Path) -> Path:
        """Copy it, as if it had been killed just before its evaluation."""
        shutil.copytree(self.folder, folder)
        for name in ("result.json", "weights.safetensors"):
            (folder / name).unlink()
        return folder


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two outcomes differ."""
    return [name for name in sorted(one | other) if one.get(name) != other.get(name)]


def _part(checkpoint: Path, name: str) -> str:
    return json.loads((checkpoint / "manifest.json").read_text())["components"][name]["path"]


def _pieces(state: Any) -> Iterator[bytes]:
    """Yield the content of a state, whatever the order of its keys."""
    if isinstance(state, torch.Tensor):
        yield f"{state.dtype} {list(state.shape)}".encode()
        yield state.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(state, dict):
        for key in sorted(state, key=str):
            yield str(key).encode()
            yield from _pieces(state[key])
    elif isinstance(state, (list, tuple)):
        for item in state:
            yield from _pieces(item)
    else:
        yield repr(state).encode()


def _digest(*pieces: bytes) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
