"""From a Gymnasium name to an environment whose observation is an image and whose actions suit the package."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import AddRenderObservation, TransformAction

from torchrl_glam.envs.adapt import image_layout
from torchrl_glam.envs.wrappers import BoolEnds
from torchrl_glam.errors import UsageError, describe_error, one_line


def find_spec(name: str) -> EnvSpec:
    """Look up ``name``, or ``module:name`` after importing the module.

    Raises:
        UsageError: if there is no such environment or module, with near matches.
    """
    module, _, short_name = name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever somebody's module may raise while it is imported
            reason = describe_error(error)
            raise UsageError(f"{name!r} wants the module {module!r}, which cannot be imported: {reason}") from error
    spec = gymnasium.registry.get(short_name)
    # ale-py also registers v0 and v4 of each game, whose settings are not the protocols'.
    if spec is None or (is_ale(spec) and spec.namespace != "ALE"):
        matches = _near_matches(short_name)
        advice = f"did you mean {' or '.join(matches)}?" if matches else "list all by gymnasium.pprint_registry()"
        raise UsageError(f"there is no environment {name!r}: {advice}")
    return spec


def is_ale(spec: EnvSpec) -> bool:
    """Return whether the environment is one of ale-py's."""
    return str(spec.entry_point).startswith("ale_py")


def make_pixel_game(spec: EnvSpec, **options: Any) -> gymnasium.Env:
    """Make an environment whose observation is an image of any size, rendered if it observes none.

    Args:
        spec: from :func:`find_spec`.
        options: of the environment's constructor.

    Raises:
        UsageError: if it cannot be made, has no image, or has other actions than ``Discrete`` or a bounded vector.
    """
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # static: before the first emulator prints its banner
    try:
        env = gymnasium.make(spec, **options)
        if not is_image(env.observation_space):
            env = _make_rendered(env, spec.id)
    except UsageError:
        raise
    except Exception as error:  # whatever the constructor of somebody's environment may raise
        raise UsageError(f"{spec.id!r} could not be made: {one_line(error) or type(error).__name__}") from error
    space = env.action_space
    if not isinstance(space, Discrete) and not _is_bounded_vector(space):
        raise UsageError(
            f"{spec.id!r} has the actions {space}: choose an environment with Discrete actions, or with a Box of "
            "floats that has one dimension and finite bounds"
        )
    if isinstance(space, Discrete) and space.start:  # torchrl 0.14.1 counts one-hot actions from 0, whatever the start
        start = int(space.start)
        env = TransformAction(env, lambda action: action + start, Discrete(int(space.n)))
    return env if is_ale(spec) else BoolEnds(env)


def is_image(space: gymnasium.Space) -> bool:
    """Return whether observations are images: uint8 or floats from 0 to 1; [h w c], [c h w] or [h w]; c 1 or 3."""
    if not isinstance(space, Box) or not image_layout(space.shape):
        return False
    floats = np.issubdtype(space.dtype, np.floating) and space.low.min() >= 0 and space.high.max() <= 1
    return bool(space.dtype == np.uint8 or floats)


def _make_rendered(env: gymnasium.Env, name: str) -> gymnasium.Env:
    """Make ``env`` again, with its rendering as the observation."""
    if env.spec is None or "rgb_array" not in env.metadata.get("render_modes", ()):
        space = one_line(env.observation_space)
        raise UsageError(
            f"{name!r} observes {space} and renders no rgb_array: choose an environment whose observation is an image, "
            "[h w c], [c h w] or [h w] with c 1 or 3, of uint8 or of floats from 0 to 1, or which renders one"
        )
    env.close()
    return AddRenderObservation(gymnasium.make(env.spec, render_mode="rgb_array"), render_only=True)


def _is_bounded_vector(space: gymnasium.Space) -> bool:
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating) or len(space.shape) != 1:
        return False
    return space.is_bounded("both") and bool((space.low < space.high).all())


def _near_matches(name: str) -> list[str]:
    """Return the registered names nearest to ``name``, compared without namespace, version, suffixes and case."""

    def bare(name: str) -> str:
        return re.sub(r"(noframeskip|deterministic|-ram)*(-v\d+)?$", "", name.rpartition("/")[2].lower())

    newest: dict[str, str] = {}
    for spec in sorted(
        gymnasium.registry.values(), key=lambda spec: (spec.namespace in (None, "ALE"), spec.version or 0)
    ):
        if not is_ale(spec) or spec.namespace == "ALE":
            newest[bare(spec.id)] = spec.id
    exact = newest.get(bare(name))
    return [exact] if exact else [newest[match] for match in difflib.get_close_matches(bare(name), newest)]
