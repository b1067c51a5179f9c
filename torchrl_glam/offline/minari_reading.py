"""The metadata and the steps of a Minari dataset on this machine; errors in one line."""

from __future__ import annotations

import difflib
import io
import math
import os
import socket
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import torch
from tensordict import TensorDict

from torchrl_glam.config.trust import check_trust, spec_imports
from torchrl_glam.data.minari_files import datasets_in, has_minari
from torchrl_glam.errors import UsageError, first_line, one_line
from torchrl_glam.offline.recorded import check_arguments, check_form
from torchrl_glam.runs.foreign import check_regular, parse_json, read_json
from torchrl_glam.runs.reading import number, want, whole_number

FILE, METADATA = Path("data", "main_data.hdf5"), Path("data", "metadata.json")
SPECS = ("env_spec", "eval_env_spec")
ENTRIES = ("observations", "actions", "rewards", "terminations", "truncations")


def find_dataset(
    dataset_id: str, root: Path, *, download: bool = False, env_name: str | None = None, trust: bool = False
) -> Any:
    """Open a dataset by Minari, which reads its metadata, and no steps yet.

    Args:
        dataset_id: ``(namespace/)name-v0``.
        root: the folder of datasets.
        download: fetch it to ``root``, by Minari, if it is not there.
        env_name: the environment that the user names, whose package is trusted.
        trust: let the dataset name an environment of others than Gymnasium and ale-py.

    Returns:
        A ``minari.MinariDataset``.

    Raises:
        UsageError: if Minari is missing, or the dataset is not there, cannot be fetched, is damaged or names an
            environment that is not trusted.
    """
    if not has_minari:
        raise UsageError('datasets need packages that are missing: pip install "torchrl_glam[minari]"')
    import minari

    if not _is_id(dataset_id):
        reason = "ids read name-v0 or namespace/name-v0, and a namespace has at least 2 letters"
        raise UsageError(_not_found(dataset_id, root, reason))
    if not (root / dataset_id).is_dir():
        if not download:
            raise UsageError(_not_found(dataset_id, root, "and downloads are off"))
        _download(dataset_id, root)
    specs = _check_metadata(dataset_id, root)
    imports = {place: path for spec in specs for place, path in spec_imports(spec).items()}
    check_trust(f"the dataset {dataset_id}", imports, trust, [env_name] if env_name else [])
    for spec in () if trust else specs:
        check_arguments(dataset_id, spec)
    try:
        with datasets_in(root):
            return minari.load_dataset(dataset_id)
    except Exception as error:  # json, missing entries, another version's: Minari has no error of its own
        raise UsageError(_damaged(dataset_id, root, f"{type(error).__name__}: {error}")) from error


def _check_metadata(dataset_id: str, root: Path) -> list[dict[str, Any]]:
    """Check a dataset's metadata before Minari reads them, and return the environments that they specify.

    For a dataset that does not say its spaces Minari makes the environment, whatever entry point it has.

    Raises:
        UsageError: if they are damaged, or name more episodes than the file of the steps could hold.
    """
    try:
        place = FILE
        check_regular(root / dataset_id / FILE)
        place = METADATA
        metadata = read_json(root / dataset_id / METADATA)
        want(isinstance(metadata, dict), "its metadata have no names")
        for space in ("observation_space", "action_space"):
            if metadata.get(space) is not None:
                parse_json(_read_text(metadata, space))
        room = os.path.getsize(root / dataset_id / FILE)
        for name in ("total_episodes", "total_steps"):
            want(0 <= whole_number(name, metadata.get(name)) <= max(room, 10**6), f"{name} is out of range")
        for name in ("ref_min_score", "ref_max_score"):
            if (score := metadata.get(name)) is not None and score == score:  # NaN: there is none
                number(name, score)
        specs = [parse_json(_read_text(metadata, name)) for name in SPECS if metadata.get(name) is not None]
        for spec in specs:
            check_form(spec)
    except UsageError as error:
        raise UsageError(_damaged(dataset_id, root, f"{place.name}: {error}")) from error
    return specs


def _read_text(metadata: dict[str, Any], name: str) -> str:
    """Return a text of the metadata."""
    value = metadata.get(name)
    want(isinstance(value, str), f"it has no {name}")
    return str(value)


def read_steps(dataset_id: str, root: Path, *, total_steps: int, total_episodes: int) -> TensorDict:
    """Read all steps [n] of a dataset, episode by episode, with TorchRL's keys and the dataset's own dtypes.

    Not by TorchRL's ``MinariExperienceReplay``: in 0.14.1 it returns zeros, holds three copies of the data, and fails
    on a single episode.

    Args:
        dataset_id, root: as for :func:`find_dataset`.
        total_steps, total_episodes: as the metadata say, compared before anything is read.

    Returns:
        ``observation``, ``action``, ``("next", "reward")`` [n 1] and ``episode``, the number of each step's episode.

    Raises:
        UsageError: if the file is damaged, holds no episodes, one that is empty or lacks an entry, or other numbers.
    """
    import h5py

    try:
        with h5py.File(root / dataset_id / FILE) as file:
            if linked := [name for name in file if not isinstance(file.get(name, getlink=True), h5py.HardLink)]:
                raise KeyError(f"{linked[0]} is a link")
            episodes = sorted(((int(name.rpartition("_")[2]), file[name]) for name in file), key=lambda pair: pair[0])
            faults = [fault for _, episode in episodes if (fault := _find_fault(episode)) is not None]
            declared = 0 if faults else sum(len(episode["rewards"]) for _, episode in episodes)
            if not faults and (declared, len(episodes)) != (total_steps, total_episodes):
                faults.append(
                    f"it holds {declared} steps in {len(episodes)} episodes, its metadata name {total_steps} in "
                    f"{total_episodes}"
                )
            steps = [] if faults else [_read_episode(number, episode) for number, episode in episodes]
        records = torch.cat(steps) if steps else None
    except (OSError, MemoryError, RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:  # of damage
        raise UsageError(_damaged(dataset_id, root, f"{type(error).__name__}: {error}")) from error
    if faults:
        raise UsageError(_damaged(dataset_id, root, faults[0]))
    if records is None:
        raise UsageError(f"the dataset {dataset_id} in {root} has no episodes: record some, or choose another one")
    return records


def _read_episode(number: int, episode: Any) -> TensorDict:
    steps = len(episode["rewards"])
    return TensorDict(
        {
            "observation": torch.from_numpy(episode["observations"][:steps]),
            "action": torch.from_numpy(episode["actions"][:]),
            "episode": torch.full((steps,), number),
            "next": {"reward": torch.from_numpy(episode["rewards"][:]).unsqueeze(-1)},
        },
        [steps],
    )


def _find_fault(episode: Any) -> str | None:
    """Return a line on what an episode, a group of the file, lacks; other files are not read."""
    import h5py

    name = episode.name.strip("/")
    if lacking := [entry for entry in ENTRIES if entry not in episode]:
        return f"{name} has no {' and no '.join(lacking)}"
    for entry in ENTRIES:
        hard = isinstance(episode.get(entry, getlink=True), h5py.HardLink)
        data = episode[entry] if hard else None
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
            return f"{name} has its {entry} elsewhere"
        if not _is_stored(data):
            return f"{name} has {entry} that were never written"
    if not (steps := len(episode["rewards"])):
        return f"{name} has no steps"
    for entry in ENTRIES:
        needed = steps + (entry == "observations")  # one more, after the last step
        if len(episode[entry]) != needed:
            return f"{name} has {len(episode[entry])} {entry} where its {steps} rewards need {needed}"
    return None


def _is_stored(data: Any) -> bool:
    """Return True if all of an array is in the file; what was never written takes no room there, but does in memory."""
    if data.chunks is None:
        return bool(data.id.get_storage_size() >= data.nbytes)
    chunks = (-(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True))
    return bool(data.id.get_num_chunks() >= math.prod(chunks))


def _download(dataset_id: str, root: Path) -> None:
    import minari

    try:
        if not getproxies() and "MINARI_REMOTE" not in os.environ:
            socket.getaddrinfo("huggingface.co", 443)  # without a network Minari would try for 23 s
        root.mkdir(parents=True, exist_ok=True)
        with datasets_in(root), redirect_stdout(io.StringIO()):
            minari.download_dataset(dataset_id)
    except Exception as error:  # whatever the network, its packages and its servers raise
        cause = first_line(error) if str(error).strip() else type(error).__name__
        raise UsageError(_not_found(dataset_id, root, f"and it cannot be downloaded: {cause}")) from error


def _is_id(name: str) -> bool:
    """Return True for a name that Minari takes: not for a namespace of one letter, which others' folders may have."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except (TypeError, ValueError):  # 0.5.4 fails with int(None) where the version is missing
        return False
    return True


def _not_found(dataset_id: str, root: Path, reason: str) -> str:
    """Return a line on a dataset that is not there, with the nearest ones that are."""
    folders = (path.parents[1].relative_to(root) for path in root.glob("**/data/metadata.json"))
    found = sorted(name for folder in folders if _is_id(name := folder.as_posix()) and name != dataset_id)
    matches = difflib.get_close_matches(dataset_id, found) or found[:3]
    advice = f"did you mean {' or '.join(matches)}?" if matches else "the folder holds no other, give another root"
    return f"there is no dataset {dataset_id} in {root} ({reason}): {advice}"


def _damaged(dataset_id: str, root: Path, reason: str) -> str:
    reason = one_line(reason)[:200].rstrip(": ")
    return f"the dataset {dataset_id} in {root} cannot be read ({reason}): restore it, or make it again"
