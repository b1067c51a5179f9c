"""The check of a machine before a long run: ``--check``."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch
from torchrl.envs import EnvBase
from tqdm import tqdm

from torchrl_glam.config import GLAMConfig, Precision
from torchrl_glam.data import record_bytes, ring_device
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.resources import available_memory, busy_cores, usable_cores
from torchrl_glam.machine.terminal import duration
from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS, frame_of, newest_first
from torchrl_glam.runs.estimate import Estimate, estimate_run
from torchrl_glam.runs.folder import CONFIG, RunFolder
from torchrl_glam.runs.loggers import check_logger

MEDIA = 100 * 2**20  # bytes that videos, pictures and metrics may take
TIGHT = 0.8  # share of the free room above which a need is worth a warning
PATIENCE = 10.0  # seconds for timing each update; the start of a run takes one
LONG = 86_400.0  # seconds of a run above which it is worth a warning
LEAST_CAPABILITY = (7, 0)  # of a GPU, for torch 2.13's builds and Triton


class Level(Enum):
    """The weight of a finding."""

    ok = "ok"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Finding:
    """A subject of the check, its level, and a line on it."""

    name: str
    level: Level
    text: str


def check_machine(
    config: GLAMConfig,
    env: EnvBase,
    folder: Path,
    device: torch.device,
    *,
    frame: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> list[Finding]:
    """Compare the needs of a run with the machine, with one update of each kind on throw-away networks.

    It usually takes well below a minute, trains nothing and leaves nothing behind.

    Args:
        config: the run's options.
        env: the real environment, as for the run; it only supplies specs.
        folder: the run's, which need not exist.
        device: the networks'.
        frame: the step that the run in ``folder`` would resume from; 0 if there is none.
        say: is told what is done next, for it may take minutes.
    """
    say("looks at folder, cores and device")
    found = [_check_folder(folder, frame), _check_load(), _check_device(config, device)]
    free = {torch.device("cpu"): available_memory()}
    if device.type == "cuda":
        free[device] = torch.cuda.mem_get_info(device)[0]
    replay = min(config.replay.capacity, config.total_frames) * record_bytes(env)
    place = ring_device(config.replay.device.value, device, replay)
    try:
        estimate = estimate_run(config, env, device, patience=PATIENCE, measure_memory=True, say=say)
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)):
            raise
        text = "one update of each kind does not fit: lower imagination.batch_size or replay.batch_size"
        return [*found, Finding("memory", Level.error, text)]
    for where, room in free.items():
        updates = (estimate.memory, estimate.imagined_replay, estimate.graphs) if where == device else (0, 0, 0)
        found.append(_check_memory(where, room, replay if where == place else 0, *updates))
    # Records that left the ring stay on disk while a checkpoint names them.
    kept = config.replay.capacity + (config.checkpoint.keep + 1) * config.checkpoint.every
    written = min(config.total_frames - frame, kept) * record_bytes(env)
    checkpoints = config.checkpoint.keep + 2  # the best one, and the one that is being written
    needed = written + MEDIA + checkpoints * (estimate.state + estimate.imagined_replay)
    room = shutil.disk_usage(_existing(folder)).free
    found.append(_compare("disk", needed, room, "choose another run_dir or make room"))
    return [*found, _check_time(config, frame, estimate)]


def format_findings(findings: Sequence[Finding]) -> str:
    """Return a table with a line for each finding, and a last line that says whether the run can start.

    Examples:
        >>> from torchrl_glam.runs.check import Finding, Level, format_findings
        >>> print(format_findings([Finding("disk", Level.ok, "1.3 GB of 70 GB free")]))
        disk  ok  1.3 GB of 70 GB free
        ready
        >>> print(format_findings([Finding("disk", Level.error, "1.3 GB of 0.2 GB free")]))
        disk  error  1.3 GB of 0.2 GB free
        not ready: disk
    """
    cells = [(finding.name, finding.level.value, finding.text) for finding in findings]
    first, second = (max((len(row[column]) for row in cells), default=0) for column in (0, 1))
    lines = [f"{name:{first}}  {level:{second}}  {text}" for name, level, text in cells]
    failed = [finding.name for finding in findings if finding.level is Level.error]
    return "\n".join([*lines, f"not ready: {', '.join(failed)}" if failed else "ready"])


def report_machine(config: GLAMConfig, env: EnvBase, device: torch.device) -> None:
    """Print the findings on this machine, for ``--check``.

    Raises:
        UsageError: if it cannot, or the run would be refused.
        Stopped: if the run is finished.
    """
    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage that it makes
    check_logger(config.logger)
    folder = Path(config.run_dir)
    if folder.exists():
        RunFolder(config).release()
    saved = newest_first(folder / CHECKPOINTS)

    def say(line: str) -> None:
        tqdm.write(f"check: {line}", file=sys.stderr)

    findings = check_machine(config, env, folder, device, frame=frame_of(saved[0]) if saved else 0, say=say)
    tqdm.write(format_findings(findings))
    require_ready(findings)


def require_ready(findings: Sequence[Finding]) -> None:
    """Raise UsageError, in one line, for the findings that would make the run fail."""
    if errors := [f"{finding.name}: {finding.text}" for finding in findings if finding.level is Level.error]:
        raise UsageError(f"not ready: {'; '.join(errors)}")


def _check_folder(folder: Path, frame: int) -> Finding:
    """Check that files can be made in the folder, or in the one above it that exists."""
    try:
        tempfile.TemporaryFile(dir=_existing(folder)).close()
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror or error}): choose another run_dir"
        return Finding("folder", Level.error, text)
    if frame:
        return Finding("folder", Level.ok, f"{folder} holds a run, which resumes from frame {frame}")
    state = "holds a run, which starts again" if (folder / CONFIG).exists() else "can be written"
    return Finding("folder", Level.ok, f"{folder} {state}")


def _check_load() -> Finding:
    """Check that torch's threads and other work have a core each: OpenMP's threads wait for each other, spinning."""
    cores, threads, busy = len(usable_cores()), torch.get_num_threads(), busy_cores()
    text = f"cores {cores}, of which {busy:.1f} busy with other work; threads {threads}"
    if threads > cores:
        text += f": set OMP_NUM_THREADS={cores}, because threads without a core of their own wait for each other"
    elif busy >= 0.5 and busy + threads > cores + 0.25:
        text += ": end that work, or updates take many times as long; the time below is then too long too"
    else:
        return Finding("load", Level.ok, text)
    return Finding("load", Level.warning, text)


def _check_device(config: GLAMConfig, device: torch.device) -> Finding:
    level, text = Level.ok, "no GPU is used"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        text = f"{torch.cuda.get_device_name(device)}, compute capability {'.'.join(map(str, capability))}"
        if capability < LEAST_CAPABILITY:
            level, text = Level.error, f"{text}, but {'.'.join(map(str, LEAST_CAPABILITY))} is needed: use device=cpu"
        elif config.training.precision is Precision.bfloat16 and capability < (8, 0):
            level, text = Level.warning, f"{text}: slow at training.precision=bfloat16, use float32"
    elif config.preset in ("paper", "released"):
        level, text = Level.warning, f"{text}: preset={config.preset} is made for one, preset=cpu is not"
    return Finding("device", level, text)


def _check_memory(
    where: torch.device, room: int, replay: int, updates: int | None, imagined: int, graphs: int
) -> Finding:
    parts = {
        "replay": replay,
        "imagined replay": imagined,
        "networks and updates": updates or 0,
        "CUDA graphs": graphs,
    }
    made_of = ", ".join(f"{part} {_gigabytes(size)}" for part, size in parts.items() if size)
    return _compare(
        "memory" if where.type == "cpu" else "GPU memory",
        sum(parts.values()),
        room,
        "lower replay.capacity or batch sizes",
        made_of=f" ({made_of})" if made_of else "",
        note="; that of updates is not measured on this system" if updates is None else "",
    )


def _check_time(config: GLAMConfig, frame: int, estimate: Estimate) -> Finding:
    left = config.total_frames - frame
    seconds = estimate.seconds * left / config.total_frames
    uncompiled = " (not compiled; less with training.compile=true)" if config.training.compile else ""
    text = f"about {duration(seconds)} for {left} frames{and_evaluation(config)}{uncompiled}"
    if seconds <= LONG:
        return Finding("time", Level.ok, text)
    return Finding("time", Level.warning, f"{text}: {advise_on_time(config)}")


def and_evaluation(config: GLAMConfig) -> str:
    """Return the words on what is not in an estimate of the time, if there is an evaluation."""
    return " and the evaluation" if config.evaluation.episodes != 0 else ""


def advise_on_time(config: GLAMConfig) -> str:
    """Return what to choose where a run would take days."""
    smaller = "" if config.preset in ("cpu", "small", "debug") else "preset=cpu, "
    return f"choose {smaller}fewer total_frames, or a machine with a GPU"


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _compare(name: str, needed: int, room: int, advice: str, *, made_of: str = "", note: str = "") -> Finding:
    level = Level.error if needed > room else Level.warning if needed > TIGHT * room else Level.ok
    text = f"about {_gigabytes(needed)}{made_of} of {_gigabytes(room)} free{note}"
    return Finding(name, level, text if level is Level.ok else f"{text}: {advice}")


def _gigabytes(size: int) -> str:
    """Return a size with two digits; what is compared here is known no better."""
    if size < 0.995e9:
        return f"{max(1, round(size / 1e6, -1 if size > 99.5e6 else None)):.0f} MB"
    return f"{size / 1e9:.2g} GB" if size < 99.5e9 else f"{size / 1e9:.0f} GB"
