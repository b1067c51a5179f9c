"""A state dict of any nesting in one file that holds tensors and JSON, and nothing that could run when it is read.

Not torchrl's ``StateDictCheckpointAdapter``: in 0.14.1 its formats end in ``tensordict.load``, which unpickles a file
called ``other.pickle`` if there is one (tensordict 0.14.3), and its folders hold a file per tensor, hundreds to flush.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchrl.checkpoint import CheckpointAdapter, GlobalRNGState

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.files import write_whole

STRUCTURE = "structure"


def write_state(path: Path, state: Any) -> None:
    """Write tensors, numbers, texts, ``None``, and dicts, lists and tuples of these to ``path``, whole or not at all.

    A tensor that is there twice is written once.

    Raises:
        TypeError: for a value of another kind.
        OSError: if it cannot be written; what was at ``path`` stays.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, tensors, {}))
    write_whole(path, lambda temporary: save_file(tensors, temporary, {STRUCTURE: structure}))


def read_state(path: Path) -> Any:
    """Read what :func:`write_state` wrote; tensors come out on the CPU.

    Raises:
        DamagedError: if it is no such file, or not whole.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return _decode(json.loads(file.metadata()[STRUCTURE]), tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path.name} is damaged or no state file") from error


class StateFileAdapter(CheckpointAdapter):
    """Lets ``torchrl.checkpoint`` keep an object's ``state_dict`` in a state file."""

    adapter_id = "torchrl_glam.state_file"
    filename = "state.safetensors"

    def save(self, component: Any, path: Path, *, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Write ``component.state_dict()`` below ``path``."""
        path.mkdir(parents=True)
        write_state(path / self.filename, component.state_dict(*args, **kwargs))

    def load(
        self,
        component: Any,
        path: Path,
        *,
        map_location: Any,
        tensor_load_kwargs: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Give ``component.load_state_dict`` what was written."""
        component.load_state_dict(read_state(path / self.filename), *args, **kwargs)


def _encode(value: Any, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    """``value`` as JSON, in which a tensor is its name in ``tensors``."""
    if isinstance(value, Tensor):
        value = value.detach()
        seen = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() == 0 or seen not in names:
            names[seen] = f"{len(tensors):06d}"
            # A copy where memory is shared with another tensor, which safetensors refuses to write.
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


class RandomState(GlobalRNGState):
    """TorchRL's, for a machine with fewer GPUs too: its own (0.14.1) wants as many as there were."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what this machine has."""
        gpus = list(state_dict.get("torch_cuda", ()))[: torch.cuda.device_count()]
        others = {name: state for name, state in state_dict.items() if name != "torch_cuda"}
        super().load_state_dict({**others, "torch_cuda": gpus} if gpus else others)


