"""GLoMa's blocks over the next few tokens by one call of acting.cpp, for acting on a CPU.

For one environment, a token by single operations is 3,000 calls of Python functions around a work of 0.1 ms.
"""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.modules.ssm import resolve_backend
from torchrl_glam.modules.ssm.cpp_library import load_library

if TYPE_CHECKING:
    from torchrl_glam.offline.gloma import GLoMaStack

SOURCE = Path(__file__).with_name("acting.cpp")
MOST_ROWS = 64  # tokens of all sequences together; for more, matrix products of torch are faster

_INT, _DOUBLE, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_PARAMETERS = (
    *("norm_weight", "norm_bias", "in_weight", "in_bias", "conv_weight", "conv_bias", "x_weight"),
    *("dt_weight", "dt_bias", "A_log", "D", "out_weight", "out_bias"),
)
_FEED_FORWARD = ("norm_weight", "norm_bias", "first_weight", "first_bias", "second_weight", "second_bias")


class _Branch(ctypes.Structure):
    """As in acting.cpp."""

    _fields_ = (
        *((name, _INT) for name in ("inner", "n", "k", "rank", "length")),
        ("eps", _DOUBLE),
        *((name, _POINTER) for name in (*_PARAMETERS, "scale", "conv", "ssm", "position")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (("count", _INT), ("branches", _Branch * 2), ("eps", _DOUBLE), *((n, _POINTER) for n in _FEED_FORWARD))


class _Stack(ctypes.Structure):
    _fields_ = (
        *((name, _INT) for name in ("b", "t", "d", "count")),
        ("layers", ctypes.POINTER(_Layer)),
        ("eps", _DOUBLE),
        *((name, _POINTER) for name in ("norm_weight", "norm_bias", "tokens")),
    )


def suits(stack: GLoMaStack, tokens: Tensor) -> bool:
    """Return whether :func:`extend` can be called: on a CPU, without gradients, in eval mode, with a compiler.

    Args:
        stack: its parameters have the tokens' dtype and device.
        tokens: ``[b t d]``.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or stack.training or tokens.device.type != "cpu":
        return False
    few = 0 < len(tokens) * tokens.shape[1] <= MOST_ROWS and not torch.is_autocast_enabled("cpu")
    if not few or tokens.dtype not in (torch.float32, torch.float64) or tokens.dtype != stack.norm.weight.dtype:
        return False
    layer: Any = stack.layers[0]
    branch = next(iter(layer.branches.values()))
    return resolve_backend(branch.mamba.backend, tokens.device) == "cpp"


def extend(stack: GLoMaStack, tokens: Tensor, memory: TensorDictBase) -> tuple[Tensor, TensorDict]:
    """Return the beliefs ``[b t d]`` after each token, and the new memory; the given one is not changed."""
    beliefs = tokens.clone(memory_format=torch.contiguous_format)
    new = memory.apply(lambda entry: entry.clone(memory_format=torch.contiguous_format))
    if stack not in _STACKS:
        _STACKS[stack] = _Weights(stack)
    call = _STACKS[stack].point(new)
    call.b, call.t, call.d = beliefs.shape
    call.tokens = beliefs.data_ptr()
    function = getattr(load_library(SOURCE), f"extend_{str(beliefs.dtype).removeprefix('torch.')}")
    function(ctypes.byref(call))
    return beliefs, new


class _Weights:
    """The structures of a stack. Addresses of parameters are compared at each call and written where they changed."""

    def __init__(self, stack: GLoMaStack) -> None:
        self.layers = (_Layer * len(stack.layers))()
        self.call = _Stack(0, 0, 0, len(self.layers), self.layers, stack.norm.eps)
        self.places: list[tuple[Any, str, dict[str, Any], str]] = []  # structure, field, owner of the tensor, its name
        self.memories: list[tuple[_Branch, tuple[str, str]]] = []
        self.addresses: list[int | None] = []
        self._add(self.call, ("norm_weight", "norm_bias"), stack.norm)
        for index, layer in enumerate(stack.layers):
            self._add_layer(index, layer)
        self.laid_out: list[Tensor] = []

    def point(self, memory: TensorDictBase) -> _Stack:
        """Return the call's structure for a memory, into which it will write."""
        tensors = [owner[name] for _, _, owner, name in self.places]
        addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        if addresses != self.addresses or self.laid_out:
            self.addresses, self.laid_out = addresses, []
            for (structure, field, _, _), tensor in zip(self.places, tensors, strict=True):
                if tensor is not None and not tensor.is_contiguous():
                    self.laid_out.append(tensor := tensor.detach().contiguous())
                setattr(structure, field, None if tensor is None else tensor.data_ptr())
        for branch, (layer, name) in self.memories:
            own = memory.get(layer).get(name)
            branch.conv, branch.ssm = own.get("conv").data_ptr(), own.get("ssm").data_ptr()
            if branch.length:
                branch.position = own.get("position").data_ptr()
        return self.call

    def _add_layer(self, index: int, layer: Any) -> None:
        structure = self.layers[index]
        structure.count, structure.eps = len(layer.branches), layer.feed_forward_norm.eps
        first, _, second = layer.feed_forward
        self._add(structure, _FEED_FORWARD, layer.feed_forward_norm, first, second)
        for number, (name, branch) in enumerate(layer.branches.items()):
            own, m = structure.branches[number], branch.mamba
            own.inner, own.n, own.k, own.rank = m.d_inner, m.d_state, m.d_conv, m.dt_rank
            own.length, own.eps = getattr(branch, "length", 0), branch.norm.eps
            self._add(own, _PARAMETERS[:6], branch.norm, m.in_proj, m.conv1d)
            self._add(own, _PARAMETERS[6:7], m.x_proj)
            self._add(own, _PARAMETERS[7:9], m.dt_proj)
            self.places += [(own, parameter, m._parameters, parameter) for parameter in ("A_log", "D")]
            self._add(own, _PARAMETERS[11:], m.out_proj)
            if layer.weights is not None:
                self.places.append((own, "scale", _Entry(layer, number), "weights"))  # type: ignore[arg-type]
            self.memories.append((own, (str(index), name)))

    def _add(self, structure: Any, fields: tuple[str, ...], *modules: nn.Module) -> None:
        """Add the weights and biases of modules, in the order of the fields."""
        owners = [(module._parameters, name) for module in modules for name in ("weight", "bias")]
        self.places += [(structure, field, *owner) for field, owner in zip(fields, owners, strict=False)]


class _Entry:
    """One of a block's fusion weights, a parameter or a buffer."""

    def __init__(self, layer: nn.Module, number: int) -> None:
        self.layer, self.number = layer, number

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self.layer, name).detach()[self.number]


_STACKS: weakref.WeakKeyDictionary[nn.Module, _Weights] = weakref.WeakKeyDictionary()
