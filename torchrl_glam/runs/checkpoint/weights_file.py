"""The networks of a run in one safetensors file, in a form that anybody can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchrl.data import Bounded, MultiOneHot, OneHot, TensorSpec

from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.runs.checkpoint.state_file import FileAdapter
from torchrl_glam.runs.files import read_tensors, seal, unseal, write_tensors
from torchrl_glam.runs.reading import numbers, want, whole_number

WEIGHTS = "weights.safetensors"
MOST_ACTIONS = MOST_NUMBERS = 65_536
MOST_PIXELS = 4096  # on a side
EARLIER = {"image_shape": (64, 64, 3), "vector_size": 0}  # what the first versions observed


@dataclass
class Weights:
    """The content of a weights file.

    Args:
        networks: state dicts by the network's name: ``world_model``, ``actor``, ``critic`` (or ``loss``).
        action_spec: the environment's, without batch dimensions.
        frame: real steps that they were trained on.
        observed: ``image_shape`` and ``vector_size`` of the world model.
    """

    networks: dict[str, dict[str, Tensor]]
    action_spec: TensorSpec
    frame: int
    observed: dict[str, Any]


def read_weights(path: Path) -> Weights:
    """Read a weights file; tensors come out on the CPU.

    Raises:
        DamagedError: if it is no weights file, or a bit of it has changed.
    """
    tensors, found = read_tensors(path)
    metadata = unseal(path, tensors, found)
    networks: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.partition(".")
        networks.setdefault(name, {})[entry] = tensor
    try:
        frame = whole_number("frame", metadata["frame"])
        want(frame >= 0, f"frame is {frame}")
        return Weights(networks, _make_spec(metadata["action"]), frame, _read_sizes(metadata))
    except (KeyError, TypeError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, UsageError) else ""
        raise DamagedError(f"{path.name} is damaged{reason}") from error


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


def check_shapes(name: str, network: nn.Module, weights: Weights) -> None:
    """Compare the shapes of a network, which may be on the device ``meta``, with those of the weights.

    So no memory is taken for options that do not fit.

    Raises:
        DamagedError: if they differ.
    """
    shapes = {key: entry.shape for key, entry in network.state_dict().items()}
    if shapes != {key: entry.shape for key, entry in weights.networks.get(name, {}).items()}:
        raise DamagedError(f"the weights of {name} are not those of this configuration")


@dataclass
class TrainedNetworks:
    """The networks of a run, as one part of its checkpoints that others can read; arguments as of :class:`Weights`."""

    networks: Mapping[str, nn.Module]
    action_spec: TensorSpec
    frame: int = 0

    def write(self, path: Path) -> None:
        """Write parameters and buffers as ``network.name``, with the rest of :class:`Weights` and a checksum.

        Raises:
            OSError: if they cannot be written; what was at ``path`` stays.
        """
        tensors = {
            f"{name}.{key}": entry.detach().cpu().contiguous().clone()  # safetensors refuses memory that is shared
            for name, network in self.networks.items()
            for key, entry in network.state_dict().items()
        }
        metadata = {"frame": self.frame, "action": _describe_actions(self.action_spec)}
        if "world_model" in self.networks:
            metadata["observed"] = {size: getattr(self.networks["world_model"], size) for size in EARLIER}
        write_tensors(path, tensors, seal(metadata, tensors))

    def read(self, path: Path) -> None:
        """Copy a weights file into the networks; errors as of :func:`read_weights` and :func:`load_networks`."""
        weights = read_weights(path)
        load_networks(self.networks, weights)
        self.frame = weights.frame


NETWORKS = FileAdapter("torchrl_glam.weights", WEIGHTS, TrainedNetworks.write, TrainedNetworks.read)


def _describe_actions(spec: TensorSpec) -> dict[str, Any]:
    if isinstance(spec, MultiOneHot):
        return {"one_hot_blocks": block_sizes(spec)}
    if isinstance(spec, OneHot):
        return {"one_hot": spec.shape[-1]}
    return {"low": spec.space.low.flatten().tolist(), "high": spec.space.high.flatten().tolist()}


def _read_sizes(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what is observed, as the file says; files of earlier versions say nothing."""
    sizes = metadata.get("observed", EARLIER)
    image_shape, vector_size = sizes["image_shape"], whole_number("vector_size", sizes["vector_size"])
    want(0 <= vector_size <= MOST_NUMBERS, f"vector_size is {vector_size}")
    if image_shape is not None:
        image_shape = tuple(whole_number("image_shape", side) for side in image_shape)
        want(len(image_shape) == 3 and all(1 <= side <= MOST_PIXELS for side in image_shape), f"{image_shape=}")
    return {"image_shape": image_shape, "vector_size": vector_size}


def _make_spec(actions: dict[str, Any]) -> TensorSpec:
    if "one_hot" in actions:
        number = whole_number("one_hot", actions["one_hot"])
        want(1 <= number <= MOST_ACTIONS, f"one_hot is {number}")
        return OneHot(number, dtype=torch.int64)
    if "one_hot_blocks" in actions:
        sizes = [whole_number("one_hot_blocks", size) for size in actions["one_hot_blocks"]]
        want(bool(sizes) and min(sizes) >= 1 and sum(sizes) <= MOST_ACTIONS, f"one_hot_blocks is {sizes[:9]}")
        return MultiOneHot(sizes, dtype=torch.int64)
    low, high = (torch.tensor(numbers(name, actions[name]), dtype=torch.float32) for name in ("low", "high"))
    want(len(low) == len(high) <= MOST_ACTIONS, "its actions' bounds differ in number")
    want(bool(((high - low) > 0).all() and (high - low).isfinite().all()), "its actions' bounds are not in order")
    return Bounded(low, high, dtype=torch.float32)
