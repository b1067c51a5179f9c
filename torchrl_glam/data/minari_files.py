"""Minari datasets on this machine: a new one is there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torchrl_glam.errors import UsageError, first_line

has_minari = all(find_spec(name) is not None for name in ("minari", "h5py"))  # minari by itself does not install h5py

PATH = "MINARI_DATASETS_PATH"
ROUNDED = r".*precision lowered by casting to float32"  # Gymnasium says so of its own RescaleAction


def datasets_root(root: Path | None = None) -> Path:
    """Return the folder of datasets: ``root``, or ``MINARI_DATASETS_PATH``, or Minari's own, ``~/.minari/datasets``."""
    return (root or Path(os.environ.get(PATH) or Path.home() / ".minari" / "datasets")).expanduser()


def check_new_dataset(dataset_id: str, root: Path, option: str = "root") -> None:
    """See that a dataset of that name can be made, before anything is computed for it, and make the folder.

    Args:
        dataset_id: ``(namespace/)name-v0``.
        root: the folder of datasets; see :func:`datasets_root`.
        option: the command's option that ``root`` comes from, for the error.

    Raises:
        UsageError: if Minari is missing, the id is malformed or taken, or ``root`` cannot be written.
    """
    if not has_minari:
        raise UsageError('datasets need packages that are missing: pip install "torchrl_glam[minari]"')
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # 0.5.4 lets int(None) tell of a missing version
        raise UsageError(f"dataset_id={dataset_id} is malformed: write name-v0 or namespace/name-v0") from error
    if (root / dataset_id).exists():
        raise UsageError(f"dataset_id={dataset_id} exists already in {root}: choose another name or version")
    with _writing(root, option):
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".export-", dir=root).cleanup()


def write_dataset(
    dataset_id: str, episodes: Iterable[Any], *, root: Path, option: str = "root", **options: Any
) -> None:
    """Write episodes to a new local Minari dataset.

    Args:
        dataset_id: ``(namespace/)name-v0``.
        episodes: Minari's ``EpisodeBuffer``, which may be made while they are written.
        root: the folder of datasets; see :func:`datasets_root`.
        option: the command's option that ``root`` comes from, for the error.
        options: of ``minari.create_dataset_from_buffers``: ``env`` or spaces, ``description``, references.

    Raises:
        UsageError: if the id is malformed or taken, or ``root`` cannot be written.
    """
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id

    check_new_dataset(dataset_id, root, option)
    with _writing(root, option), tempfile.TemporaryDirectory(prefix=".export-", dir=root.resolve()) as temporary:
        with datasets_in(Path(temporary)), warnings.catch_warnings():
            # It asks for author, address and link of the code, which whoever publishes the dataset may add, and, where
            # there is none, for an environment.
            warnings.filterwarnings("ignore", category=UserWarning, module="minari")
            warnings.filterwarnings("ignore", ROUNDED)
            minari.create_dataset_from_buffers(dataset_id, episodes, data_format="hdf5", jpeg_encoding=False, **options)
        with datasets_in(root):
            _make_namespace(parse_dataset_id(dataset_id)[0])
        os.replace(Path(temporary, dataset_id), root / dataset_id)


@contextmanager
def _writing(root: Path, option: str) -> Iterator[None]:
    """Turn what the system says against writing in ``root`` into a line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UsageError(f"{option}={root} cannot be written ({reason}): choose another folder") from error


def _make_namespace(namespace: str | None) -> None:
    from minari.namespace import create_namespace, list_local_namespaces

    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)


@contextmanager
def datasets_in(root: Path) -> Iterator[None]:
    """Let Minari, which reads its folder only from the environment, work in ``root``."""
    before = os.environ.get(PATH)
    os.environ[PATH] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[PATH]
        else:
            os.environ[PATH] = before
