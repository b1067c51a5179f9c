"""From a Gymnasium name to an environment whose observations and actions suit the package."""

from __future__ import annotations

import difflib
import importlib
import re
from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from gymnasium.wrappers import AddRenderObservation, TransformAction

from torchrl_glam.envs.images import SMALLEST, image_layout, image_sides
from torchrl_glam.envs.spaces import simplify_observations
from torchrl_glam.envs.wrappers import BoolEnds, CheckedSteps
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


def make_game(spec: EnvSpec, observation: str = "auto", pixels_key: str | None = None, **options: Any) -> gymnasium.Env:
    """Make an environment of whose observations and actions torchrl makes specs that :func:`adapt_env` takes.

    Args:
        spec: from :func:`find_spec`.
        observation: what is wanted, see :func:`adapt_env`. An image that the environment does not observe is rendered,
            beside its observation if both are wanted.
        pixels_key: the entry that is the image.
        options: of the environment's constructor.

    Raises:
        UsageError: if it cannot be made, has no image where one is wanted, observes something that is no numbers, or
            has other actions than ``Discrete``, ``MultiDiscrete`` or a bounded vector.
    """
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # static: before the first emulator prints its banner
    try:
        env = gymnasium.make(spec, **options)
        env = env if is_ale(spec) else _observe(CheckedSteps(env, spec.id), spec.id, observation, pixels_key)
    except UsageError:
        raise
    except Exception as error:  # whatever the constructor of somebody's environment may raise
        raise UsageError(f"{spec.id!r} could not be made: {one_line(error) or type(error).__name__}") from error
    env = simplify_actions(env, spec.id)
    return env if is_ale(spec) else BoolEnds(env)


def _observe(env: gymnasium.Env, name: str, observation: str, pixels_key: str | None) -> gymnasium.Env:
    """Wrap ``env`` so that it observes what is wanted, in spaces that torchrl takes."""
    space = env.observation_space
    if observation in ("pixels", "mixed") and pixels_key is None and not has_image(space, observation == "pixels"):
        return _make_rendered(env, name, only=observation == "pixels")
    small = isinstance(space, Box) and is_image(space) and not has_image(space)  # which torchrl would call pixels
    return simplify_observations(env, name, flat=small and observation != "pixels" and pixels_key is None)


def has_image(space: gymnasium.Space, of_any_size: bool = False) -> bool:
    """Return whether a space, or one in a Dict or Tuple, is an image of a size that nobody takes for a grid of symbols.

    Args:
        space: of observations.
        of_any_size: if it is an array itself, a small one will do.
    """
    if isinstance(space, Dict | Tuple):
        return any(has_image(part) for part in (space.values() if isinstance(space, Dict) else space))
    return is_image(space) and (of_any_size or min(image_sides(space.shape or ())) >= SMALLEST)


def observes_vectors(name: str, observation: str = "auto", pixels_key: str | None = None) -> bool:
    """Return whether an environment is known to give vectors alone; False for one that cannot be made.

    Arguments as of :func:`torchrl_glam.envs.make_atari_env`.
    """
    if observation != "auto" or pixels_key is not None:
        return observation == "state"
    try:
        spec = find_spec(name)
        if is_ale(spec):
            return False
        env = gymnasium.make(spec)
        env.close()
    except Exception:  # whatever somebody's environment may raise; who makes it for a run says so
        return False
    return not has_image(env.observation_space)


def is_image(space: gymnasium.Space) -> bool:
    """Return whether observations are images: uint8 or floats from 0 to 1; [h w c], [c h w] or [h w]; c 1 or 3."""
    if not isinstance(space, Box) or not image_layout(space.shape):
        return False
    floats = np.issubdtype(space.dtype, np.floating) and space.low.min() >= 0 and space.high.max() <= 1
    return bool(space.dtype == np.uint8 or floats)


def _make_rendered(env: gymnasium.Env, name: str, only: bool) -> gymnasium.Env:
    """Make ``env`` again, with its rendering as the observation, or beside it."""
    if env.spec is None or "rgb_array" not in env.metadata.get("render_modes", ()):
        space = one_line(env.observation_space)
        raise UsageError(
            f"{name!r} observes {space} and renders no rgb_array: choose an environment whose observation is an image, "
            "[h w c], [c h w] or [h w] with c 1 or 3, of uint8 or of floats from 0 to 1, or which renders one"
        )
    env.close()
    env = gymnasium.make(env.spec, render_mode="rgb_array")
    env = env if only else simplify_observations(env, name)
    return AddRenderObservation(env, render_only=only, obs_key="observation")


def simplify_actions(env: gymnasium.Env, name: str) -> gymnasium.Env:
    """Wrap ``env`` so that its actions count from 0, whatever their start: torchrl 0.14.1's do.

    Raises:
        UsageError: if its actions cannot be learned.
    """
    space = env.action_space
    if isinstance(space, Discrete) and space.n > 1:
        start = int(space.start)
        return TransformAction(env, lambda action: action + start, Discrete(int(space.n))) if start else env
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1 and space.nvec.max() > 1:
        starts = space.start
        if len(starts) == 1:  # of which torchrl makes a number where an array is wanted
            return TransformAction(env, lambda action: action + starts, Discrete(int(space.nvec[0])))
        return TransformAction(env, lambda action: action + starts, MultiDiscrete(space.nvec)) if starts.any() else env
    if not _is_bounded_vector(space):
        raise UsageError(
            f"{name!r} has the actions {one_line(space)}: choose an environment with 2 or more Discrete actions, with "
            "MultiDiscrete ones, or with a Box of floats that has one dimension and finite bounds"
        )
    return env


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
