"""Files that are whole or not there: written beside their place, flushed to the disk, renamed, checksummed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.foreign import check_regular, parse_json, read_text

METADATA = "torchrl_glam"  # one entry, because safetensors (0.8) writes several in no certain order
SUM, UNSEALED = "sha256", {"action", "frame"}  # the checksum in it, and what was there before there was one
SUMS = "SHA256SUMS"
"""The list of a folder's checksums, as ``sha256sum -c SHA256SUMS`` reads it."""


def write_whole(path: Path, write: Callable[[Path], object], tag: str = "") -> None:
    """Let ``write(temporary path)`` make a file, and rename it to ``path`` once all of it is on the disk.

    Args:
        path: of the file; one that is there is replaced, a symbolic link itself and not what it points to.
        write: makes it.
        tag: in the temporary file's name, by which its writer knows it again.

    Raises:
        OSError: if the disk is full or the folder cannot be written; what was at ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}{tag}.part")
    if temporary.is_symlink():
        raise OSError(errno.ELOOP, f"{temporary.name} is a symbolic link")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file with :func:`write_whole`."""
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_file(path: Path, data: bytes | str) -> None:
    """Write a file for the user, and its folder if need be, with :func:`write_whole`.

    Raises:
        UsageError: if it cannot be written; what was at ``path`` stays.
    """
    content = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): make room, or choose another folder"
        ) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, tag: str = ""
) -> None:
    """Write a safetensors file with :func:`write_whole`."""

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), temporary, None if metadata is None else dict(metadata))
        except SafetensorError as error:  # safetensors 0.8 gives the system's error as its own text
            full = any(text in str(error) for text in ("No space left", "os error 28"))
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error

    write_whole(path, write, tag)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file, onto the CPU, and its metadata.

    Raises:
        DamagedError: if it is no safetensors file, or not whole.
    """
    try:
        check_regular(path)  # a pipe would be waited for
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DamagedError(f"{path.name} is damaged or missing") from error


def seal(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return metadata for a safetensors file: ``content``, and a checksum of it and of the tensors."""
    return {METADATA: json.dumps({**content, SUM: _digest(content, tensors)})}


def unseal(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the content that :func:`seal` put into metadata, and compare its checksum.

    Files of earlier versions have none.

    Raises:
        DamagedError: if there is no such content, or a bit of it or of the tensors has changed.
    """
    try:
        content = parse_json(metadata[METADATA])
        digest = content.pop(SUM, None)
        is_whole = digest == _digest(content, tensors) if digest is not None else not content.keys() - UNSEALED
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path.name} is no file of torchrl_glam, or damaged") from error
    if not is_whole:
        raise DamagedError(f"{path.name} is damaged")
    return dict(content)


def _digest(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def set_aside(path: Path) -> None:
    """Rename what is not used, so that it is not taken for a newer checkpoint later."""
    free, number = path.with_name(f"rejected-{path.name}"), 1
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"rejected-{path.name}.{number}")
    os.replace(path, free)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the file's checksum, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_sums(folder: Path) -> None:
    """List the checksums of all files below ``folder`` in it, and flush everything to the disk."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))
    for path in [*files, folder / SUMS, *{path.parent for path in files}, folder]:
        sync(path)


def check_sums(folder: Path) -> None:
    """Compare the files below ``folder`` with its list of checksums.

    Raises:
        DamagedError: if one is missing, changed, not in the list, or no regular file: a link, a pipe, a device.
    """
    try:
        text = read_text(folder / SUMS)
    except UsageError as error:
        raise DamagedError(f"{SUMS} is missing or unreadable") from error
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    if not text.endswith("\n") or any(len(digest) != 64 or not name for name, digest in listed.items()):
        raise DamagedError(f"{SUMS} is damaged")
    below = {path.relative_to(folder).as_posix(): path.lstat().st_mode for path in folder.rglob("*")}
    found = {name for name, mode in below.items() if not stat.S_ISDIR(mode)} - {SUMS}
    for name in sorted(found):
        if not stat.S_ISREG(below[name]):
            raise DamagedError(f"{name} is no regular file")
    for name in sorted(found ^ set(listed)):
        raise DamagedError(f"{name} is missing" if name in listed else f"{name} does not belong there")
    for name, digest in listed.items():
        if sha256(folder / name) != digest:
            raise DamagedError(f"{name} is damaged")
