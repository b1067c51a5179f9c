"""How functions are compiled, and captured as CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import CudaGraphModule

COMPILED: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": {"fallback_random": True}}
"""Arguments of ``torch.compile``: for the sizes that come, and with the draws of the plain function."""


class CapturedPerConstants:
    """A function of a tensordict and constants, captured as one CUDA graph for each choice of the constants.

    The first call with new constants runs as it is, the second captures, later ones replay. With gradients the function
    runs as it is, and where capturing fails a warning says why and it does so from then on.

    Args:
        function: takes a tensordict, whose shapes do not change, and constants; returns a new tensordict and does not
            synchronise.
    """

    def __init__(self, function: Callable[..., TensorDictBase]) -> None:
        self._function = function
        self._graphs: dict[tuple[Any, ...], Callable[[TensorDictBase], TensorDictBase]] = {}
        self._failed = False

    def __call__(self, tensordict: TensorDictBase, *constants: Any) -> TensorDictBase:
        """Run the function."""
        if torch.is_grad_enabled() or self._failed:
            return self._function(tensordict, *constants)
        if constants not in self._graphs:
            function = partial(self._with_constants, constants)
            self._graphs[constants] = CudaGraphModule(function, in_keys=[], out_keys=[])
        try:
            return self._graphs[constants](tensordict)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of {self._function.__name__}, which runs without: {error}", stacklevel=2)
            self._failed = True
            return self._function(tensordict, *constants)

    def _with_constants(self, constants: tuple[Any, ...], tensordict: TensorDictBase) -> TensorDictBase:
        # Autocast would keep the weights that it has cast until the caller leaves it: a graph captured meanwhile would
        # read those, freed by then, at every replay.
        caches = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return self._function(tensordict, *constants)
        finally:
            torch.set_autocast_cache_enabled(caches)
