"""The part of a module's state that is saved nowhere else, and an optimizer's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torchrl_glam.errors import DamagedError


def own_state(module: nn.Module, known: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return the entries of ``module``'s state that no ``known`` module has, by name, sharing their memory."""
    elsewhere = {entry.data_ptr() for other in known for entry in other.state_dict().values()}
    return {name: entry for name, entry in module.state_dict().items() if entry.data_ptr() not in elsewhere}


def load_own_state(module: nn.Module, known: Iterable[nn.Module], state: Mapping[str, Tensor]) -> None:
    """Copy what :func:`own_state` gave back in place.

    Raises:
        DamagedError: if the entries are others.
    """
    here = own_state(module, known)
    if {name: entry.shape for name, entry in here.items()} != {name: entry.shape for name, entry in state.items()}:
        raise DamagedError(f"the state of {type(module).__name__} has other entries than this run's")
    for name, entry in here.items():
        entry.copy_(state[name])


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, whose shapes torch (2.13) compares only when it takes the next step.

    Raises:
        DamagedError: if it is that of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        moments = [
            (parameters[index].shape, entry)
            for index, entries in state["state"].items()
            for name, entry in entries.items()
            if name != "step"
        ]
        if fits := all(entry.shape == shape for shape, entry in moments):
            optimizer.load_state_dict(state)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DamagedError("the state of the optimizer has another form than this run's") from error
    if not fits:
        raise DamagedError("the state of the optimizer has other shapes than this run's")
