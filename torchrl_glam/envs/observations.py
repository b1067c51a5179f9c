"""What is observed of all that an environment gives: an image as ``pixels``, numbers as ``observation``, or both."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from tensordict import NestedKey
from torchrl.data import Composite, NonTensor, TensorSpec
from torchrl.envs import CatTensors, EnvBase, ExcludeTransform, RemoveEmptySpecs, RenameTransform, Transform

from torchrl_glam.envs.images import COLORS, ToImage, looks_like_image, spec_layout
from torchrl_glam.envs.vectors import ToVector
from torchrl_glam.errors import UsageError

OBSERVATIONS = ("auto", "pixels", "state", "mixed")
"""What is observed: all that there is, the image, the numbers, or both."""

BOOKKEEPING = ("life_loss", "lives", "episode_reward", "step_count", "is_init", "reward", "terminated", "truncated")
"""Entries about the episode, which are not observed. (TorchRL has some of them among the observations.)"""

MOST_NUMBERS = 4096
"""Of an array that is no image, above which it is taken for a mistake unless the state is asked for."""

log = logging.getLogger(__name__)


def observation_transforms(
    env: EnvBase, observation: str, pixels_key: NestedKey | None, image_size: int | None, color: str
) -> list[Transform]:
    """Return what makes ``pixels`` and ``observation`` of an environment's entries and leaves out the others.

    Arguments and errors as of :func:`torchrl_glam.envs.adapt_env`.
    """
    for name, value, choices in (("observation", observation, OBSERVATIONS), ("color", color, COLORS)):
        if value not in choices:
            raise UsageError(f"{name}={value!r} does not exist: use one of {', '.join(choices)}")
    spec, batch_dims = env.full_observation_spec, env.batch_dims
    entries = choose_entries(spec, batch_dims, observation, pixels_key)
    transforms: list[Transform] = [ExcludeTransform(*entries.left_out)] if entries.left_out else []
    chosen = [*entries.vectors, *([] if entries.pixels is None else [entries.pixels])]
    nested = [key for key in (*chosen, *entries.left_out) if isinstance(key, tuple)]
    now = {key: key for key in chosen}
    if in_the_way := [key for key in nested if key[0] in ("pixels", "observation")]:  # Dicts named as the results
        now |= {key: "-".join(key) for key in in_the_way if key in now}
        moved = [key for key in chosen if now[key] != key]
        transforms += [RenameTransform(moved, [now[key] for key in moved])] if moved else []
        transforms.append(RemoveEmptySpecs())
    transforms += [ToVector(now[key], spec[key], batch_dims) for key in entries.vectors]
    if entries.vectors:
        transforms.append(CatTensors([now[key] for key in entries.vectors], "observation"))
    if (key := entries.pixels) is not None:
        transforms += [] if now[key] == "pixels" else [RenameTransform([now[key]], ["pixels"])]
        transforms.append(ToImage(tuple(spec[key].shape[batch_dims:]), image_size, color))
    return [*transforms, *([RemoveEmptySpecs()] if nested else [])]


@dataclass(frozen=True)
class Entries:
    """The entries that are observed, and those that are left out."""

    pixels: NestedKey | None
    vectors: list[NestedKey]
    left_out: list[NestedKey]


def choose_entries(spec: Composite, batch_dims: int, observation: str, pixels_key: NestedKey | None) -> Entries:
    """Choose of an environment's observations; arguments and errors as of :func:`torchrl_glam.envs.adapt_env`."""
    leaves = {key: leaf for key, leaf in spec.items(True, True) if key not in BOOKKEEPING}
    texts = [key for key, leaf in leaves.items() if isinstance(leaf, NonTensor)]
    if texts:
        notice(f"{names(texts)} is no number: left out of what is observed")
    full = [key for key, leaf in leaves.items() if leaf.shape[batch_dims:].numel()]  # of one number or more
    numbers = {key: leaves[key] for key in full if key not in texts}
    by_name = {_dotted(key): key for key in numbers}  # which may have dots of their own
    named = by_name.get("pixels") if pixels_key is None else by_name.get(_dotted(pixels_key), pixels_key)
    if named is not None and observation != "state":
        _check_image(numbers, batch_dims, named)
    alone = observation == "pixels" and len(numbers) == 1  # of any size then
    images = [
        key
        for key, leaf in numbers.items()
        if looks_like_image(leaf, batch_dims) or ((key == named or alone) and spec_layout(leaf, batch_dims))
    ]
    vectors = [] if observation == "pixels" else [key for key in numbers if key not in images]
    pixels = None if observation == "state" else named or _only_image(images)
    if pixels is None and observation in ("pixels", "mixed"):
        advice = "use from_pixels=True, or another environment"
        raise UsageError(f"the environment observes {names(leaves)}, none of which is an image: {advice}")
    if not vectors and (observation in ("state", "mixed") or pixels is None):
        advice = "use observation=auto" if pixels or images else "choose another environment"
        raise UsageError(f"the environment observes {names(leaves)}, none of which is a vector of numbers: {advice}")
    if observation in ("auto", "mixed"):
        _check_sizes({key: numbers[key] for key in vectors}, batch_dims)
    left_out = [key for key in leaves if key != pixels and key not in vectors]
    return Entries(pixels, vectors, left_out)


def _check_image(leaves: dict[NestedKey, TensorSpec], batch_dims: int, pixels_key: NestedKey) -> None:
    """Raise UsageError if there is no entry of that name, or it is no image."""
    if pixels_key not in leaves:
        images = [key for key, leaf in leaves.items() if looks_like_image(leaf, batch_dims)]
        advice = f"give pixels_key={_dotted(images[0])!r}, or leave it out" if images else "leave pixels_key out"
        raise UsageError(f"the environment observes {names(leaves)} and no {pixels_key!r}: {advice}")
    leaf = leaves[pixels_key]
    if not spec_layout(leaf, batch_dims):
        raise UsageError(
            f"the environment's {pixels_key!r} is {leaf.dtype} {list(leaf.shape[batch_dims:])}: an image of uint8, or "
            "of floats from 0 to 1, is wanted, as [h w c], [c h w] or [h w], where c is 1 or 3; observation=state "
            "takes its numbers"
        )


def _only_image(images: list[NestedKey]) -> NestedKey | None:
    """Return the image to observe, if there is any."""
    if len(images) > 1:
        raise UsageError(
            f"the environment observes {len(images)} images, {names(images)}, and one is wanted: choose it by "
            f"pixels_key={images[0]!r} (on a command line env.pixels_key={_dotted(images[0])})"
        )
    return images[0] if images else None


def _check_sizes(vectors: dict[NestedKey, TensorSpec], batch_dims: int) -> None:
    """Refuse arrays that are images of another form, such as stacks of frames, rather than vectors."""
    for key, leaf in vectors.items():
        shape = leaf.shape[batch_dims:]
        if shape.numel() > MOST_NUMBERS:
            raise UsageError(
                f"the environment's {key!r} is {leaf.dtype} {list(shape)}, no image and large for a vector: make an "
                "image of it, uint8 or floats from 0 to 1, [h w c], [c h w] or [h w] with c 1 or 3, or take its "
                "numbers by observation=state"
            )


def describe_observation(env: EnvBase) -> str:
    """Return in words what world models read of an adapted environment.

    Examples:
        >>> from torchrl_glam.envs import describe_observation, make_atari_env
        >>> describe_observation(make_atari_env("ALE/Pong-v5"))
        'observes pixels 64x64x3'
    """
    spec, parts = env.observation_spec, []
    if "pixels" in spec:
        parts.append(f"pixels {'x'.join(map(str, spec['pixels'].shape[-3:]))}")
    if "observation" in spec:
        parts.append(f"a vector of {spec['observation'].shape[-1]}")
    return f"observes {' and '.join(parts)}"


@functools.cache
def notice(line: str) -> None:
    """Say something once in a process."""
    log.warning(line)


def _dotted(key: NestedKey) -> str:
    """Return a key as the command line has it."""
    return key if isinstance(key, str) else ".".join(key)


def names(keys: Iterable[NestedKey]) -> str:
    """Return keys for an error's line."""
    return ", ".join(map(repr, keys)) or "nothing"
