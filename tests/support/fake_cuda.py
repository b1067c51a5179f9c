"""A CUDA device that is not there: updates run on it as fake tensors, and what would make a host wait is noted.

It finds wrong devices, ``.item()``, constants on the CPU and operands of two devices; it proves nothing about kernels,
numbers or speed. Import it before torch, in a process of its own, from a CPU build of torch (2.13):
``FAKE_CUDA=shim.so python -m tests.support.fake_cases``; tests/whole/test_fake_cuda.py makes the library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "FAKE_CUDA" in os.environ:
    ctypes.CDLL(os.environ["FAKE_CUDA"], mode=ctypes.RTLD_GLOBAL)  # it registers itself, which has to be before torch

import tensordict
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten
WAITS = (ATEN.nonzero, ATEN.masked_select, ATEN._unique2, ATEN.unique_dim, ATEN.unique_consecutive)
SHOWN = ("torchrl_glam/", "torchrl/", "tensordict/", "torch/optim", "torch/distributions", "torch/nn/utils")
MACHINE: dict[str, Any] = {
    "is_available": True,
    "mem_get_info": (70 << 30, 80 << 30),
    "is_bf16_supported": True,
    "device_count": 1,
    "current_device": 0,
    "_lazy_init": None,
    "synchronize": None,
    "get_device_name": "fake GPU",
    "get_device_capability": (9, 0),
    "empty_cache": None,
    "reset_peak_memory_stats": None,
    "max_memory_allocated": 1 << 30,
    "memory_allocated": 1 << 30,
    "set_rng_state": None,
    "is_current_stream_capturing": False,
}


class Captured(RuntimeError):
    """The error of an operation that a CUDA graph cannot hold."""


class Notes(TorchDispatchMode):
    """Operations that wait for the device, copies between devices, and operands of two devices, with where they are.

    Attributes:
        found: how often each was seen.
        capturing: raise :class:`Captured` in their place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.on = self.capturing = False

    def note(self, what: str) -> None:
        """Count it, or raise it."""
        line = f"{what} | {_where()}"
        if self.capturing:
            raise Captured(line)
        if self.on:
            self.found[line] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket if hasattr(func, "overloadpacket") else func
        first = args[0] if args and isinstance(args[0], Tensor) else None
        on_cuda = first is not None and first.is_cuda
        if first is not None:
            if packet is ATEN._local_scalar_dense and (on_cuda or isinstance(first, FakeTensor)):
                if on_cuda:
                    self.note(f"waits: item of {first.dtype}")
                return True if first.dtype == torch.bool else 1.0 if first.is_floating_point() else 1
            if packet in (ATEN.is_nonzero, ATEN.equal, ATEN.allclose):
                if on_cuda:
                    self.note(f"waits: {packet.__name__}")
                return True
        if packet is ATEN.is_set_to:
            return False
        if on_cuda:
            self._look(packet, args)
        if packet in (ATEN._to_copy, ATEN.copy_):
            source = args[1] if packet is ATEN.copy_ else first
            to = torch.device(first.device if packet is ATEN.copy_ else kwargs.get("device") or first.device)
            if source.device.type != to.type:
                self.note(f"copies: {source.device.type} to {to.type}, {list(source.shape)} {source.dtype}")
        elif len({leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}) > 1:
            self.note(f"mixes devices: {packet.__name__}")
        return func(*args, **kwargs)

    def _look(self, packet: Any, args: Any) -> None:
        if packet in WAITS:
            self.note(f"waits: {packet.__name__}")
        if packet in (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_):
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.note(f"waits: {packet.__name__} by booleans")
                if index is not None and index.device.type == "cpu":
                    self.note(f"copies: {packet.__name__} by an index on the cpu")


NOTES = Notes()


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Make tensors on ``device="cuda"`` possible, as fakes: they have shapes, dtypes and devices, and no values."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, NOTES:
        yield mode


@contextlib.contextmanager
def watched(found: dict[str, int]) -> Iterator[None]:
    """Write what is noted inside into ``found``."""
    NOTES.found.clear()
    NOTES.on = True
    try:
        yield
    finally:
        NOTES.on = False
        found.update(NOTES.found)


class FakeGraph:
    """A CUDA graph whose capture refuses what a real one does, and whose replay does nothing."""

    def replay(self) -> None:
        """Do nothing: there are no numbers."""

    @staticmethod
    @contextlib.contextmanager
    def capture(graph: FakeGraph, **options: Any) -> Iterator[None]:
        """Stand in for ``torch.cuda.graph``."""
        NOTES.capturing = True
        try:
            yield
        finally:
            NOTES.capturing = False


def _where() -> str:
    """Return the innermost lines of this package and TorchRL, without line numbers, which change."""
    frames = [frame for frame in traceback.extract_stack() if any(part in frame.filename for part in SHOWN)]
    names = [f"{frame.filename.split('site-packages/')[-1]}:{frame.name}" for frame in reversed(frames)]
    root = str(Path(__file__).parents[2]) + os.sep
    short = [name.removeprefix(root) for name in dict.fromkeys(names) if "_subclasses" not in name]
    ours = next((number for number, name in enumerate(short) if "torchrl_glam/" in name), len(short))
    return " < ".join(short[: max(2, ours + 1)][:6])


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Stand in for ``nn.Module._apply``, whose swap of a tensor's data a fake refuses; shared tensors stay shared."""
    for module in self.children():
        module._apply(fn)
    for store in (self._parameters, self._buffers):
        for name, tensor in list(store.items()):
            if tensor is None:
                continue
            with torch.no_grad():
                moved = fn(tensor)
            if moved is tensor or (moved.device, moved.dtype) == (tensor.device, tensor.dtype):
                continue
            if id(tensor) not in MOVED or MOVED[id(tensor)][0] is not tensor:
                is_parameter = store is self._parameters
                MOVED[id(tensor)] = tensor, nn.Parameter(moved, tensor.requires_grad) if is_parameter else moved
            store[name] = MOVED[id(tensor)][1]
    return self


MOVED: dict[int, tuple[Tensor, Tensor]] = {}


def install() -> None:
    """Replace what asks a real device, for the rest of this process."""
    FakeTensorMode.avoid_device_init = property(lambda self: True)
    with FakeTensorMode():
        torch.empty(1, device="cuda")
    for name, value in MACHINE.items():
        setattr(torch.cuda, name, lambda *args, _value=value, **options: _value)
    torch.cuda.get_rng_state = lambda *args: torch.zeros(16, dtype=torch.uint8)
    torch.cuda.CUDAGraph, torch.cuda.graph = FakeGraph, FakeGraph.capture
    nn.Module._apply = _apply
    tensordict.TensorDictBase.bytes = lambda self, **options: 1000
