"""The checkpoints of a run: written whole, verified before they are used, the newest and the best kept."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchrl.checkpoint import Checkpoint, CheckpointError

import torchrl_glam
from torchrl_glam.errors import DamagedError, UsageError, describe_error
from torchrl_glam.runs.checkpoint.listing import (
    BEST,
    CHECKPOINTS,
    PREFIX,
    find_best,
    find_part,
    frame_of,
    newest_first,
    replay_state,
    run_id_of,
    verify,
)
from torchrl_glam.runs.checkpoint.replay_files import ReplayFiles
from torchrl_glam.runs.checkpoint.state_file import STATES
from torchrl_glam.runs.checkpoint.weights_file import NETWORKS, WEIGHTS, TrainedNetworks, Weights, read_weights
from torchrl_glam.runs.files import check_sums, set_aside, sync, write_sums


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
        self._unfinished = self._folder / f".{run_id}"  # what is written or removed now
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
        self._sweep()
        self._networks.frame = frame
        metadata = {"run": self._run_id, "frame": frame, "version": torchrl_glam.__version__}
        if train_return is not None:
            metadata[BEST] = train_return
        temporary = self._checkpoint.save(self._unfinished / final.name, metadata=metadata)
        write_sums(temporary)
        if os.path.lexists(final):  # it was damaged or is not ours, and this is its step again
            set_aside(final)
        os.replace(temporary, final)
        sync(self._folder)
        newest = self._prune()
        if self._replay is not None:
            self._replay.prune(state for path in newest if (state := replay_state(path)) is not None)
        self._sweep()

    def _prune(self) -> list[Path]:
        """Remove those of this run's checkpoints that are no longer kept; return the newest ones."""
        own = [path for path in newest_first(self._folder) if self._is_own(path)]
        newest, best = own[: self._keep], find_best(own)
        for path in own[self._keep :]:
            if path != best:
                os.replace(path, self._unfinished / path.name)  # at once, for whoever reads it
        return newest

    def _is_own(self, path: Path) -> bool:
        try:
            return not path.is_symlink() and path.is_dir() and run_id_of(path) == self._run_id
        except DamagedError:
            return False

    def _sweep(self) -> None:
        """Remove what a process of this run was writing or removing when it was killed, and nothing else."""
        if self._unfinished.is_symlink():
            raise OSError(errno.ELOOP, f"{CHECKPOINTS}/{self._unfinished.name} is a symbolic link")
        shutil.rmtree(self._unfinished, ignore_errors=True)

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
                set_aside(rejected)
            return Restored(self._networks.frame, list(skipped.values()))
        if found:
            newest, *others = skipped.values()
            more = f"; and {len(others)} older" if others else ""
            raise UsageError(
                f"{self._folder.parent} cannot be resumed ({newest}{more}): restore the files, or choose another "
                "run_dir"
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


def find_weights(folder: Path, which: str) -> Weights:
    """Read the networks of a run: ``newest``, its final ones or the newest checkpoint's, or ``best``.

    Raises:
        UsageError: if there are none.
        DamagedError: if there are none that are whole.
    """
    if which not in ("newest", "best"):
        raise UsageError(f"weights={which} does not exist: choose newest or best")
    while True:
        found = newest_first(folder / CHECKPOINTS)
        try:
            return _find_weights(folder, which, found)
        except DamagedError:
            if found == newest_first(folder / CHECKPOINTS):
                raise  # else the run that trains here has removed one while it was read


def _find_weights(folder: Path, which: str, found: Sequence[Path]) -> Weights:
    if which == "best":
        best = find_best(found)
        if best is None:
            raise UsageError(f"{folder} has no checkpoint with a return in training: use weights=newest")
        return _checked_weights(best)
    final, damage = None, None
    if (folder / WEIGHTS).exists():
        try:
            final = read_weights(folder / WEIGHTS)
        except DamagedError as error:
            damage = error
    for path in found:
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
    try:
        check_sums(checkpoint)
        return read_weights(find_part(checkpoint, "weights") / WEIGHTS)
    except OSError as error:
        raise DamagedError(f"{checkpoint.name} cannot be read ({error.strerror or error})") from error
