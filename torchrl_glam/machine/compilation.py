"""Compiling functions, and capturing them as CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase
from torch._inductor.cpp_builder import get_cpp_compiler

from torchrl_glam.errors import UsageError

COMPILED: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": {"fallback_random": True}}
"""Arguments of ``torch.compile``: static sizes, and the random numbers of the plain function."""


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
    captures, later ones replay; each kept graph holds its memory. With gradients the function runs as it is. If
    capturing fails, a warning says why, and the function runs without a graph from then on.

    Not tensordict 0.14's ``CudaGraphModule``, which waits for the GPU at every replay and ignores the batch size.

    Args:
        function: of a tensordict and hashable constants; returns a new tensordict and does not synchronise.
    """

    def __init__(self, function: Callable[..., TensorDictBase]) -> None:
        self._function = function
        self._replays: dict[tuple[Any, ...], Replay | None] = {}
        self._failed = False

    def __call__(self, tensordict: TensorDictBase, *constants: Any) -> TensorDictBase:
        """Run the function."""
        if torch.is_grad_enabled() or self._failed:
            return self._function(tensordict, *constants)
        precision = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (tensordict.shape, precision, *constants)
        if key not in self._replays:
            self._replays[key] = None
            return self._without_cast_cache(tensordict, constants)
        replay = self._replays[key]
        if replay is None:
            try:
                replay = self._replays[key] = self._capture(tensordict, constants)
            except RuntimeError as error:
                warnings.warn(f"no CUDA graph of {self._function.__name__}, which runs without: {error}", stacklevel=2)
                self._failed = True
                return self._function(tensordict, *constants)
        return replay(tensordict)

    def _capture(self, tensordict: TensorDictBase, constants: tuple[Any, ...]) -> Replay:
        inputs, graph = tensordict.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be gathering a batch
            outputs = self._without_cast_cache(inputs.copy(), constants)

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
