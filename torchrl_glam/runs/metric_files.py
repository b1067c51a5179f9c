"""The CSV files of a run's metrics: as they were at the checkpoint again, and never somebody else's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.files import sync, write_text, write_whole

METRICS, SCALARS = "metrics", "scalars"  # folders, one in the other, as torchrl's CSVLogger has them


class MetricFiles:
    """The metric files that one run wrote; others in its folder are neither read nor touched.

    A checkpoint holds a copy of them, so that a file that is damaged or lost meanwhile is written again. The names of
    those that are newer than the checkpoint are in a file of the run's own.

    Args:
        folder: ``metrics`` in the run's.
        run_id: of the run.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder, self._list = folder, folder / f".{run_id}"
        self._copies: dict[str, bytearray] = {}
        self._own: set[str] = set()

    def claim(self, metrics: Iterable[str]) -> None:
        """Take the files of these metrics, which are to be written.

        Raises:
            UsageError: if one is there that this run did not write.
            OSError: if the list of them cannot be written.
        """
        new = [name for metric in metrics if (name := f"{SCALARS}/{metric}.csv") not in self._own]
        for name in new:
            if os.path.lexists(self._path(name)):
                raise UsageError(f"{self._folder / name} is not a file of this run: move it away, and resume the run")
        if new:
            self._folder.mkdir(exist_ok=True)
            with self._path(self._list.name).open("a", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in new)
            sync(self._list)
            self._own.update(new)

    def state_dict(self) -> dict[str, Tensor]:
        """Flush the files to the disk; return the bytes of each, by its path."""
        for name in sorted(self._own):
            path, copy = self._path(name), self._copies.setdefault(name, bytearray())
            if path.exists():
                sync(path)
                with path.open("rb") as file:
                    file.seek(len(copy))
                    copy += file.read()
        return {name: torch.frombuffer(copy, dtype=torch.uint8).clone() for name, copy in self._copies.items() if copy}

    def load_state_dict(self, state: Mapping[str, Tensor | int]) -> list[str]:
        """Remove what was written since :meth:`state_dict`, and repair what was damaged.

        Args:
            state: of the checkpoint; an earlier version's has the length of each file only.

        Returns:
            A line for each file that was repaired.

        Raises:
            UsageError: if a file is beyond a symbolic link, or outside the folder.
            OSError: if one cannot be written.
        """
        if any(isinstance(content, int) for content in state.values()):
            self._set_aside_unlisted(state)
        self._own = self._listed() | set(state)
        repaired = [line for name, content in state.items() if (line := self._restore(name, content))]
        for name in self._own - set(state):
            path = self._path(name)
            if path.is_file():
                path.unlink()
        self._own = set(state)
        if self._folder.is_dir():
            write_text(self._list, "".join(f"{name}\n" for name in sorted(self._own)))
        return repaired

    def _set_aside_unlisted(self, state: Mapping[str, Tensor | int]) -> None:
        """Rename files that may be newer than the checkpoint of an earlier version, which kept no list of its own."""
        for path in (self._folder / SCALARS).rglob("*.csv"):
            if path.relative_to(self._folder).as_posix() not in state:
                os.replace(path, path.with_name(f"{path.name}.aside"))

    def _restore(self, name: str, content: Tensor | int) -> str | None:
        path = self._path(name)
        found = path.read_bytes() if path.is_file() else b""
        wanted = found[:content] if isinstance(content, int) else content.numpy().tobytes()
        self._copies[name] = bytearray(wanted)
        if found.startswith(wanted) and path.is_file():
            if len(found) > len(wanted):
                os.truncate(path, len(wanted))
            return None
        how = "was damaged" if path.exists() else "was lost"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: temporary.write_bytes(wanted))
        return f"{METRICS}/{name} {how}: written again as it was at the checkpoint"

    def _path(self, name: str) -> Path:
        """Return the place of a file, which is reached through no link."""
        path, top = self._folder / name, self._folder.resolve()
        if path.resolve() != top / name:
            raise UsageError(f"{path} is beyond a symbolic link or another folder: a run writes to its own folder only")
        return path

    def _listed(self) -> set[str]:
        try:
            *names, _ = self._list.read_text(encoding="utf-8").split("\n")  # the last one may be half written
        except (OSError, ValueError):
            return set()
        return set(names)
