"""Gymnasium spaces that torchrl 0.14.1 cannot take as they are, and their nearest that it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.wrappers import TransformObservation

from torchrl_glam.envs.observations import BOOKKEEPING, notice
from torchrl_glam.errors import UsageError, one_line

Change = Callable[[Any], Any]

TAKEN = (*BOOKKEEPING, "action", "done", "next", "_reset", "collector")
"""Names that an entry of a Dict cannot have in TorchRL, and those that it would take for one about the episode."""


def simplify_observations(env: gymnasium.Env, name: str, *, flat: bool = False) -> gymnasium.Env:
    """Wrap ``env`` so that it observes Boxes, ``Discrete`` and ``MultiDiscrete`` from 0, and Dicts of those.

    A ``Tuple`` becomes a Dict whose keys are numbers; texts are left out, with one line of notice.

    Args:
        env: the environment.
        name: for messages.
        flat: flatten an observed array to a vector.

    Raises:
        UsageError: if it observes something else, such as a ``Graph``.
    """
    space, change = _simplify(env.observation_space, name, "")
    if flat:
        assert isinstance(space, Box), f"{space} is no array"
        low, high, dtype = space.low.flatten(), space.high.flatten(), space.dtype
        assert dtype is not None, "a Box has one"
        return TransformObservation(env, np.ravel, Box(low, high, dtype=dtype.type))
    if space == env.observation_space and not isinstance(space, Dict):
        return env
    return TransformObservation(env, change, space)  # a Dict is made anew: torchrl writes into nested ones


def _simplify(space: Space, name: str, key: str) -> tuple[Space, Change]:
    """Return a space, and the function that changes the environment's values to that one's."""
    prefix = f"{key}." if key else ""
    if isinstance(space, Dict):
        return _simplify_parts({str(part): (part, inner) for part, inner in space.items()}, name, prefix)
    if isinstance(space, Tuple):
        width = len(str(len(space) - 1))
        parts = {f"{number:0{width}}": (number, part) for number, part in enumerate(space)}
        return _simplify_parts(parts, name, prefix)
    if isinstance(space, Discrete):
        start = int(space.start)
        return (Discrete(int(space.n)), lambda value: value - start) if start else (space, _same)
    if isinstance(space, MultiDiscrete):
        starts = space.start
        return MultiDiscrete(space.nvec.ravel()), lambda value: np.ravel(value - starts)
    if isinstance(space, MultiBinary) or (isinstance(space, Box) and space.dtype == np.bool_):
        return Box(0, 1, space.shape, np.int8), lambda value: np.asarray(value, np.int8)
    if isinstance(space, Box):
        if (space.dtype.kind == "u" and space.dtype != np.uint8) or space.dtype == np.longdouble:  # no tensor's
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            return Box(low, high, dtype=np.float64), lambda value: np.asarray(value, np.float64)
        return space, _same
    raise UsageError(
        f"{name!r} observes {one_line(space)}{f' as {key}' if key else ''}: choose an environment that observes Boxes, "
        "Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of those"
    )


def _simplify_parts(parts: dict[str, tuple[Any, Space]], name: str, prefix: str) -> tuple[Space, Change]:
    """Simplify a Dict's or a Tuple's parts: by their keys the place in its values, and the space."""
    spaces: dict[str, Space] = {}
    changes: dict[str, tuple[Any, Change]] = {}
    for key, (place, part) in parts.items():
        if part.dtype is not None and part.dtype.kind == "U":  # a Text, or what MiniGrid has for one
            notice(f"{name}: {prefix}{key} is a text, which is left out of what is observed")
            continue
        simple, change = _simplify(part, name, f"{prefix}{key}")
        while not prefix and (key in TAKEN or key in spaces):
            key = f"{key}_"
        spaces[key], changes[key] = simple, (place, change)
    return Dict(spaces), lambda value: {key: change(value[place]) for key, (place, change) in changes.items()}


def check_fit(value: Any, space: Space, name: str, key: str = "") -> None:
    """Raise UsageError, which names the environment and the entry, if an observation is not of its space.

    Bounds of a Box are not checked, nor its shape, only how many numbers come.
    """
    if isinstance(space, Dict | Tuple):
        parts = space.items() if isinstance(space, Dict) else enumerate(space)
        held = (
            value.keys() if isinstance(value, Mapping) else range(len(value)) if isinstance(value, tuple | list) else ()
        )
        for part, inner in parts:
            whole = f"{key}.{part}" if key else str(part)
            if part not in held:
                raise UsageError(f"{name!r} observes no {whole}, which its observation_space has: {_MEND}")
            check_fit(value[part], inner, name, whole)
    elif isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary) and (wrong := _misfit(value, space)):
        place = f" as {key}" if key else ""
        raise UsageError(f"{name!r} observes {wrong}{place}, and its space is {one_line(space)}: {_MEND}")


_MEND = "mend the environment's reset and step, or its observation_space"


def _misfit(value: Any, space: Space) -> str | None:
    """Return what is wrong with a value of a space of numbers."""
    try:
        numbers = np.asarray(value)
    except Exception:  # of a ragged list, or whatever somebody's class may raise
        return f"a {type(value).__name__}"
    if numbers.dtype.kind not in "biuf":
        return f"a {type(value).__name__}"
    if numbers.size != np.prod(space.shape or (), dtype=int):
        return f"an array of shape {list(numbers.shape)}"
    if isinstance(space, Discrete | MultiDiscrete):
        choices = space.n if isinstance(space, Discrete) else space.nvec.ravel()
        counted = numbers.ravel() - np.ravel(space.start)
        if not ((counted >= 0) & (counted < choices)).all():
            return one_line(numbers)
    return None


def _same(value: Any) -> Any:
    return value
