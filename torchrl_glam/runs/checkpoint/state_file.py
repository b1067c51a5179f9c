"""A state dict of any nesting in one file that holds tensors and JSON, and nothing that could run when it is read.

Not torchrl's ``StateDictCheckpointAdapter``: in 0.14.1 its formats end in ``tensordict.load``, which unpickles a file
called ``other.pickle`` if there is one (tensordict 0.14.3). Its folders hold a file per tensor, hundreds to flush.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.checkpoint import CheckpointAdapter, GlobalRNGState

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.files import read_tensors, write_tensors

STATE, STRUCTURE = "state.safetensors", "structure"


def write_state(path: Path, state: Any) -> None:
    """Write tensors, numbers, texts, ``None``, and dicts, lists and tuples of these to ``path``, whole or not at all.

    A tensor that is there twice is written once.

    Raises:
        TypeError: for a value of another kind.
        OSError: if it cannot be written; what was at ``path`` stays.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, tensors, {}))
    write_tensors(path, tensors, {STRUCTURE: structure})


def read_state(path: Path) -> Any:
    """Read what :func:`write_state` wrote; tensors come out on the CPU.

    Raises:
        DamagedError: if it is no such file, or not whole.
    """
    tensors, metadata = read_tensors(path)
    try:
        return _decode(json.loads(metadata[STRUCTURE]), tensors)
    except (KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path.name} is damaged or no state file") from error


class FileAdapter(CheckpointAdapter):
    """Lets ``torchrl.checkpoint`` keep a part in one file.

    Args:
        adapter_id: name of the file's format, for the manifest.
        filename: in the part's folder.
        write: writes a part to a file.
        read: restores a part from a file.
    """

    def __init__(
        self,
        adapter_id: str,
        filename: str,
        write: Callable[[Any, Path], object],
        read: Callable[[Any, Path], object],
    ) -> None:
        self.adapter_id, self._filename, self._write, self._read = adapter_id, filename, write, read

    def save(self, component: Any, path: Path, *, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Write the part below ``path``."""
        path.mkdir(parents=True)
        self._write(component, path / self._filename)

    def load(self, component: Any, path: Path, **_: Any) -> None:
        """Restore the part from below ``path``."""
        self._read(component, path / self._filename)


STATES = FileAdapter(
    "torchrl_glam.state_file",
    STATE,
    lambda part, path: write_state(path, part.state_dict()),
    lambda part, path: part.load_state_dict(read_state(path)),
)


class RandomState(GlobalRNGState):
    """TorchRL's random state, restored also on a machine with fewer GPUs: its own (0.14.1) wants as many."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what this machine has."""
        gpus = list(state_dict.get("torch_cuda", ()))[: torch.cuda.device_count()]
        others = {name: state for name, state in state_dict.items() if name != "torch_cuda"}
        super().load_state_dict({**others, "torch_cuda": gpus} if gpus else others)


def _encode(value: Any, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    """Return ``value`` as JSON, in which a tensor is its name in ``tensors``."""
    if isinstance(value, Tensor):
        value = value.detach()
        seen = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() == 0 or seen not in names:
            names[seen] = f"{len(tensors):06d}"
            # A copy, because safetensors refuses to write memory that is shared with another tensor.
            tensors[names[seen]] = value.to("cpu", copy=True).contiguous()
        return {"tensor": names[seen]}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(key, tensors, names), _encode(item, tensors, names)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors, names) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors, names) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state of type {type(value).__name__} cannot be written")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if kind == "dict":
        return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind {kind!r}")
