"""Compiling functions, and capturing them as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch._inductor.cpp_builder import get_cpp_compiler

from torchrl_glam.errors import UsageError

COMPILED: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": {"fallback_random": True}}
"""Arguments of ``torch.compile``: static sizes, and the random numbers of the plain function."""

COMPILED_PER_HORIZON: dict[str, Any] = {**COMPILED, "fullgraph": False, "dynamic": None}
"""The same for losses of imagined rollouts, whose time is a size that changes: it is dynamic from the second one on.

Static sizes would be compiled anew for each, 8 times, then the loss would run as it is. Not as one graph: torch 2.13
cannot trace torchrl 0.14.1's OneHotCategorical."""

KEPT_GRAPHS = 2
"""Graphs that are kept of one function, those used last: a run's horizon may rise through 33 values, each 0.5 GB."""


def check_compiler(option: str, device: torch.device) -> None:
    """Check that ``torch.compile`` finds the compiler that it needs on a CPU, before anything is compiled.

    Args:
        option: the option that asks for it, for the error's line.
        device: the target; only a CPU is checked.

    Raises:
        UsageError: if there is no C++ compiler.
    """
    if device.type != "cpu":
        return
    try:
        get_cpp_compiler()  # torch 2.13 looks for it only at the first call, and fails with a traceback
    except RuntimeError as error:
        raise UsageError(
            f"{option} needs a C++ compiler on a CPU, and none is found: install one (g++), name it by CXX=..., "
            "or leave the option out"
        ) from error


Replay = Callable[[TensorDictBase], TensorDictBase]


class CapturedPerConstants:
    """A function of a tensordict and constants, captured as one CUDA graph for each choice of the constants.

    The batch size and autocast's state count as constants. The first call with new ones runs as it is, the second
    captures, later ones replay. A graph holds its memory; the :data:`KEPT_GRAPHS` used last are kept. With gradients
    the function runs as it is.

    Not tensordict 0.14's ``CudaGraphModule``, which waits for the GPU at every replay and ignores the batch size.

    Args:
        function: of a tensordict and hashable constants; returns a new tensordict and does not synchronise.

    Raises:
        UsageError: if it cannot be captured. A failed capture leaves torch's allocator capturing (2.13), so that the
            process cannot continue without a graph.
    """

    def __init__(self, function: Callable[..., TensorDictBase]) -> None:
        self._function = function
        self._replays: dict[tuple[Any, ...], Replay] = {}  # the one used last comes last
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, tensordict: TensorDictBase, *constants: Any) -> TensorDictBase:
        """Run the function."""
        if torch.is_grad_enabled():
            return self._function(tensordict, *constants)
        precision = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (tensordict.shape, precision, *constants)
        if key not in self._seen:
            self._seen.add(key)
            return self._without_cast_cache(tensordict, constants)
        replay = self._replays.pop(key, None)
        if replay is None:
            while len(self._replays) >= KEPT_GRAPHS:
                del self._replays[next(iter(self._replays))]  # first, for its memory
            replay = self._capture(tensordict, constants)
        self._replays[key] = replay
        return replay(tensordict)

    def _capture(self, tensordict: TensorDictBase, constants: tuple[Any, ...]) -> Replay:
        inputs, graph = tensordict.clone(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be gathering a batch
                outputs = self._without_cast_cache(inputs.copy(), constants)
        except RuntimeError as error:
            raise UsageError(
                f"no CUDA graph can be made of {self._function.__name__.strip('_')} "
                f"({str(error).strip().partition(chr(10))[0]}): what it runs must not wait for the GPU, as .item() and "
                "boolean indices do; or leave out training.compile=true"
            ) from error

        def replay(tensordict: TensorDictBase) -> TensorDictBase:
            inputs.update_(tensordict)
            graph.replay()
            return outputs.clone()

        return replay

    def _without_cast_cache(self, tensordict: TensorDictBase, constants: tuple[Any, ...]) -> TensorDictBase:
        # Autocast keeps the weights that it has cast until the caller leaves it. A graph captured meanwhile would read
        # them at every replay, when they are freed.
        caches = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return self._function(tensordict, *constants)
        finally:
            torch.set_autocast_cache_enabled(caches)
