"""The checkpoints of a run: written whole, verified before they are used, the newest and the best kept."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchrl.checkpoint import Checkpoint, CheckpointError, CheckpointRotation

import torchrl_glam
from torchrl_glam.errors import DamagedError, UsageError, describe_error
from torchrl_glam.runs.checkpoint.manifest import part_folder, read_manifest
from torchrl_glam.runs.checkpoint.replay_files import REPLAY, ReplayFiles, check_chunk
from torchrl_glam.runs.checkpoint.state_file import STATE, STATES, read_state
from torchrl_glam.runs.checkpoint.weights_file import NETWORKS, WEIGHTS, TrainedNetworks, Weights, read_weights
from torchrl_glam.runs.files import check_sums, sync, write_sums
from torchrl_glam.runs.reading import number

CHECKPOINTS, PREFIX = "checkpoints", "checkpoint"
NAME = re.compile(rf"{PREFIX}-[0-9]+")
BEST = ("train_return", "max")
UNREADABLE = (CheckpointError, OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError)
"""The errors of torchrl 0.14.1 for a manifest that is none."""


@dataclass
class Restored:
    """The step that :meth:`Checkpoints.restore` resumes from, and a line for each checkpoint that it skipped."""

    frame: int
    skipped: list[str] = field(default_factory=list)


class Checkpoints:
    """Saves and restores the parts of a run as ``torchrl.checkpoint`` does, and verifies all that it reads.

    Parts with ``state_dict`` and ``load_state_dict`` go to state files, the networks to a weights file, the replay to
    chunks outside the checkpoint. ``torchrl.checkpoint`` (0.14.1) neither flushes its files to the disk nor checks
    them when they are read. Here a checkpoint gets its name when all of it is on the disk, with checksums.

    Args:
        folder: the run's.
        run_id: of the run; a checkpoint with another one is not its own.
        networks: the part of a checkpoint that others than this run read.
        replay: the records, of a run that collects any.
        random_state: restored after everything else.
        parts: all the others, by name.
        keep: newest checkpoints kept.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        *,
        networks: TrainedNetworks,
        replay: ReplayFiles | None,
        random_state: Any,
        parts: dict[str, Any],
        keep: int = 2,
    ) -> None:
        self._folder, self._run_id, self._keep = folder / CHECKPOINTS, run_id, keep
        self._networks, self._replay = networks, replay
        self._rotation = CheckpointRotation(self._folder, keep_last=keep, keep_best=BEST, prefix=PREFIX)
        self._checkpoint = Checkpoint().register("weights", networks, adapter=NETWORKS)
        records = {} if replay is None else {"replay": replay}
        for name, part in {**records, "random_state": random_state, **parts}.items():
            self._checkpoint.register(name, part, adapter=STATES)

    def save(self, frame: int, train_return: float | None) -> None:
        """Write a checkpoint of step ``frame``, and remove those that are no longer kept.

        Raises:
            OSError: if it cannot be written; those written before are as they were.
        """
        final = self._folder / f"{PREFIX}-{frame:012d}"
        self._folder.mkdir(exist_ok=True)
        for unfinished in self._folder.glob(".*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        self._networks.frame = frame
        metadata = {"run": self._run_id, "frame": frame, "version": torchrl_glam.__version__}
        if train_return is not None:
            metadata[BEST[0]] = train_return
        temporary = self._checkpoint.save(self._folder / f".{final.name}", metadata=metadata)
        write_sums(temporary)
        if final.exists():  # it was damaged, and this is its step again
            shutil.rmtree(final)
        os.replace(temporary, final)
        sync(self._folder)
        self._rotation.prune()
        if self._replay is not None:
            newest = self._rotation.checkpoints()[-self._keep :]
            self._replay.prune(state for path in newest if (state := _replay_state(path)) is not None)

    def restore(self) -> Restored:
        """Resume from the newest checkpoint that is whole and this run's, or from step 0 if none was ever written.

        Skipped ones are renamed, so that they are not taken for newer ones later.

        Raises:
            UsageError: if there are checkpoints and none can be used, or one cannot be loaded here.
        """
        skipped: dict[Path, str] = {}
        found = newest_first(self._folder)
        for path in found:
            try:
                self._load(path)
            except DamagedError as error:
                skipped[path] = f"{CHECKPOINTS}/{path.name} is skipped: {error}"
                continue
            for rejected in skipped:
                os.replace(rejected, _free_name(rejected.with_name(f"rejected-{rejected.name}")))
            return Restored(self._networks.frame, list(skipped.values()))
        if found:
            raise UsageError(
                f"{self._folder.parent} cannot be resumed ({'; '.join(skipped.values())}): restore the files, or "
                "choose another run_dir"
            )
        return Restored(0)

    def _load(self, path: Path) -> None:
        metadata = verify(path, self._run_id)
        # Last come the environment's steps, which can be taken only once, and the random state that all may draw from.
        first, last = set(self._checkpoint.components), ("collector", "random_state")
        try:
            self._checkpoint.load(path, components=first.difference(last))
            for name in (name for name in last if name in first):
                self._checkpoint.load(path, components={name})
        except CheckpointError as error:
            if isinstance(error.__cause__, (DamagedError, UsageError)):
                raise error.__cause__ from error
            raise UsageError(
                f"{path} does not fit this run ({describe_error(error.__cause__ or error)}): torchrl_glam "
                f"{metadata.get('version', '(unknown version)')} wrote it, this is {torchrl_glam.__version__}"
            ) from error


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, damaged ones too, the newest first."""
    return sorted((path for path in folder.glob(f"{PREFIX}-*") if NAME.fullmatch(path.name)), reverse=True)


def frame_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's name gives."""
    return int(checkpoint.name.split("-")[-1])


def verify(path: Path, run_id: str) -> dict[str, Any]:
    """Check every byte of a checkpoint and of the chunks of the replay that it names; return its metadata.

    Raises:
        DamagedError: if anything is missing, changed or another run's.
    """
    check_sums(path)
    if run_id_of(path) != run_id:
        raise DamagedError("it is another run's")
    manifest = read_manifest(path)
    if "replay" in manifest["components"]:
        state = read_state(_part(path, "replay") / STATE)
        try:
            for chunk in state["chunks"]:
                check_chunk(path.parents[1] / REPLAY, chunk)
        except (KeyError, TypeError) as error:
            raise DamagedError("its list of records is damaged") from error
    return manifest["metadata"]


def run_id_of(path: Path) -> str:
    """Return the run that a checkpoint says it is of.

    Raises:
        DamagedError: if it says nothing.
    """
    try:
        return str(read_manifest(path)["metadata"]["run"])
    except UNREADABLE as error:
        raise DamagedError("manifest.json is no checkpoint's of ours") from error


def find_weights(folder: Path, which: str) -> Weights:
    """Read the networks of a run: ``newest``, its final ones or the newest checkpoint's, or ``best``.

    Raises:
        UsageError: if there are none.
        DamagedError: if there are none that are whole.
    """
    if which not in ("newest", "best"):
        raise UsageError(f"weights={which} does not exist: choose newest or best")
    if which == "best":
        found = [(_train_return(path), path) for path in newest_first(folder / CHECKPOINTS)]
        scored = [(score, path) for score, path in found if score is not None]
        if not scored:
            raise UsageError(f"{folder} has no checkpoint with a return in training: use weights=newest")
        return _checked_weights(max(scored)[1])  # of equal ones the newest
    final, damage = None, None
    if (folder / WEIGHTS).exists():
        try:
            final = read_weights(folder / WEIGHTS)
        except DamagedError as error:
            damage = error
    for path in newest_first(folder / CHECKPOINTS):
        if final is not None and final.frame >= frame_of(path):
            break
        try:
            return _checked_weights(path)
        except DamagedError as error:
            damage = damage or error
    if final is not None:
        return final
    raise damage or UsageError(f"{folder} has no weights yet: its run wrote no checkpoint")


def _checked_weights(checkpoint: Path) -> Weights:
    check_sums(checkpoint)
    return read_weights(_part(checkpoint, "weights") / WEIGHTS)


def _part(checkpoint: Path, name: str) -> Path:
    """Return the folder of one part of a checkpoint.

    Raises:
        DamagedError: if there is no such part.
    """
    try:
        return part_folder(checkpoint, name)
    except UNREADABLE as error:
        raise DamagedError(f"{checkpoint.name} has no {name}") from error


def _train_return(checkpoint: Path) -> float | None:
    """Return the return in training that a checkpoint says; None if it says none."""
    try:
        return number(BEST[0], read_manifest(checkpoint)["metadata"][BEST[0]])
    except UNREADABLE:
        return None


def _replay_state(checkpoint: Path) -> dict[str, Any] | None:
    """Return the state of the replay in a checkpoint, or None if it is damaged."""
    try:
        state = read_state(_part(checkpoint, "replay") / STATE)
    except DamagedError:
        return None
    return state if isinstance(state, dict) and "chunks" in state else None


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path if number == 1 else path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return free
