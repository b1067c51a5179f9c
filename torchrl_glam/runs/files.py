"""Files that are whole or not there: written beside their place, flushed to the disk, renamed, checksummed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from torchrl_glam.errors import DamagedError, UsageError

SUMS = "SHA256SUMS"
"""The list of a folder's checksums, as ``sha256sum -c SHA256SUMS`` reads it."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write(temporary path)`` make a file and put it in the place of ``path`` only when all of it is on the disk.

    Raises:
        OSError: if the disk is full or the folder cannot be written; what was at ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        try:
            write(temporary)
        except SafetensorError as error:  # safetensors 0.8 says by a text of its own what the system said
            raise OSError(_errno(error), str(error), str(path)) from error
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The file's checksum, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def write_sums(folder: Path) -> None:
    """List the checksums of all files below ``folder`` in it, and flush everything to the disk."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))
    for path in [*files, folder / SUMS, *{path.parent for path in files}, folder]:
        sync(path)


def check_sums(folder: Path) -> None:
    """Compare the files below ``folder`` with its list.

    Raises:
        DamagedError: if one is missing, changed or not in the list.
    """
    try:
        text = (folder / SUMS).read_text()
    except (OSError, ValueError) as error:
        raise DamagedError(f"{SUMS} is missing or unreadable") from error
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    if not text.endswith("\n") or any(len(digest) != 64 or not name for name, digest in listed.items()):
        raise DamagedError(f"{SUMS} is damaged")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
    for name in sorted(found ^ set(listed)):
        raise DamagedError(f"{name} is missing" if name in listed else f"{name} does not belong there")
    for name, digest in listed.items():
        if sha256(folder / name) != digest:
            raise DamagedError(f"{name} is damaged")


def _digest(file) -> str:  # type: ignore[no-untyped-def]
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _errno(error: SafetensorError) -> int:
    return errno.ENOSPC if "No space left" in str(error) or "os error 28" in str(error) else errno.EIO


def write_file(path: Path, data: bytes) -> None:
    """Write a file, and its folder if need be, all of it or nothing.

    Raises:
        UsageError: if it cannot be written; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: temporary.write_bytes(data))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): make room, or choose another folder"
        ) from error
