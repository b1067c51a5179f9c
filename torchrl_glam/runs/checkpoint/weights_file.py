"""The networks of a run in one safetensors file, in a form that anybody can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchrl.checkpoint import CheckpointAdapter
from torchrl.data import Bounded, OneHot, TensorSpec

from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.files import write_whole

WEIGHTS = "weights.safetensors"
METADATA = "torchrl_glam"  # one entry, for safetensors (0.8) writes several in no certain order


@dataclass
class Weights:
    """What a weights file holds.

    Args:
        networks: state dicts by the network's name: ``world_model``, ``actor``, ``critic`` (or ``loss``).
        action_spec: the environment's, without batch dimensions.
        frame: real steps that they were trained on.
    """

    networks: dict[str, dict[str, Tensor]]
    action_spec: TensorSpec
    frame: int


def write_weights(path: Path, networks: Mapping[str, nn.Module], action_spec: TensorSpec, frame: int) -> None:
    """Write the networks' parameters and buffers as ``network.name``, and in the file's metadata what else is needed.

    Raises:
        OSError: if it cannot be written; what was at ``path`` stays.
    """
    tensors = {
        f"{name}.{key}": entry.detach().cpu().contiguous().clone()  # safetensors refuses memory that is shared
        for name, network in networks.items()
        for key, entry in network.state_dict().items()
    }
    metadata = json.dumps({"frame": frame, "action": _describe_actions(action_spec)})
    write_whole(path, lambda temporary: save_file(tensors, temporary, {METADATA: metadata}))


def read_weights(path: Path) -> Weights:
    """Read a weights file; tensors come out on the CPU.

    Raises:
        DamagedError: if it is no weights file, or not whole.
    """
    networks: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            if METADATA not in (file.metadata() or {}):
                raise DamagedError(f"{path.name} is no weights file of torchrl_glam")
            metadata = json.loads(file.metadata()[METADATA])
            for key in file.keys():  # noqa: SIM118 (it is no dict)
                name, _, entry = key.partition(".")
                networks.setdefault(name, {})[entry] = file.get_tensor(key)
        return Weights(networks, _make_spec(metadata["action"]), int(metadata["frame"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path.name} is damaged or missing") from error


def load_networks(networks: Mapping[str, nn.Module], weights: Weights) -> None:
    """Copy the weights into the networks that have the same names.

    Raises:
        DamagedError: if they do not fit.
    """
    for name, network in networks.items():
        try:
            network.load_state_dict(weights.networks.get(name, {}))
        except RuntimeError as error:
            raise DamagedError(f"the weights of {name} are not those of this configuration") from error


@dataclass
class TrainedNetworks:
    """The networks of a run as one part of its checkpoints."""

    networks: Mapping[str, nn.Module]
    action_spec: TensorSpec
    frame: int = field(default=0, init=False)


class WeightsAdapter(CheckpointAdapter):
    """Lets ``torchrl.checkpoint`` keep :class:`TrainedNetworks` in a weights file."""

    adapter_id = "torchrl_glam.weights"

    def save(self, component: TrainedNetworks, path: Path, *, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Write the networks below ``path``."""
        path.mkdir(parents=True)
        write_weights(path / WEIGHTS, component.networks, component.action_spec, component.frame)

    def load(
        self,
        component: TrainedNetworks,
        path: Path,
        *,
        map_location: Any,
        tensor_load_kwargs: Mapping[str, Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Copy what was written into the networks."""
        weights = read_weights(path / WEIGHTS)
        load_networks(component.networks, weights)
        component.frame = weights.frame


def _describe_actions(spec: TensorSpec) -> dict[str, Any]:
    if isinstance(spec, OneHot):
        return {"one_hot": spec.shape[-1]}
    return {"low": spec.space.low.flatten().tolist(), "high": spec.space.high.flatten().tolist()}


def _make_spec(actions: dict[str, Any]) -> TensorSpec:
    if "one_hot" in actions:
        return OneHot(actions["one_hot"], dtype=torch.int64)
    return Bounded(torch.tensor(actions["low"]), torch.tensor(actions["high"]), dtype=torch.float32)
