"""From any TorchRL environment with an image to the keys that the rest of the package expects."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, OneHot, TensorSpec, Unbounded
from torchrl.envs import (
    ActionScaling,
    Compose,
    DoubleToFloat,
    EnvBase,
    InitTracker,
    ObservationTransform,
    RemoveEmptySpecs,
    RenameTransform,
    RewardSum,
    StepCounter,
    Transform,
    TransformedEnv,
)

from torchrl_glam.errors import UsageError


def adapt_env(env: EnvBase, *, pixels_key: NestedKey = "pixels", image_size: int = 64) -> TransformedEnv:
    """Give an environment of any batch size the keys that world models are trained on.

    They are (``s`` is ``image_size``): ``pixels`` [s s 3] uint8; ``action``, one-hot or within [-1, 1]; ``reward``;
    ``life_loss`` [1] bool, which is ``terminated`` if the environment has no such entry of its own; ``terminated``,
    ``done``, and ``truncated`` if there is one; ``episode_reward``, ``step_count``, ``is_init``. Other entries stay.

    Args:
        env: has the keys ``action`` (one-hot, or a bounded vector of floats), ``reward`` and ``terminated``, and an
            image: uint8, or floats from 0 to 1; [h w c], [c h w] or [h w], where c is 1 or 3.
        pixels_key: the image's entry, which is renamed.
        image_size: height and width of ``pixels``.

    Raises:
        UsageError: if a key is missing or of another kind.

    Examples:
        >>> from torchrl.envs import GymEnv
        >>> env = adapt_env(GymEnv("ALE/Breakout-v5", frame_skip=4))
        >>> env.rollout(3)["next", "pixels"].shape
        torch.Size([3, 64, 64, 3])
    """
    known = set(env.full_observation_spec.keys(True, True))
    transforms = [*_image_transforms(env, pixels_key, image_size), *_action_transforms(env)]
    for key, found in {"reward": env.reward_keys, "terminated": env.done_keys}.items():
        if key not in found:
            raise UsageError(f"the environment has no {key!r}, but {_names(found)}: {_RENAME}")
    additions = {
        "life_loss": TerminationIsLifeLoss,
        "episode_reward": RewardSum,
        "step_count": StepCounter,
        "is_init": InitTracker,
    }
    transforms += [addition() for key, addition in additions.items() if key not in known]
    return TransformedEnv(env, Compose(*transforms), auto_unwrap=True)


class TerminationIsLifeLoss(Transform):
    """Set ``life_loss`` where a game without lives terminates, so that every environment has the key."""

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        return next_tensordict.set("life_loss", next_tensordict["terminated"].clone())

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return tensordict_reset.set("life_loss", self.parent.full_done_spec["terminated"].zero())

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Add the spec of ``life_loss``, which is that of ``terminated``."""
        observation_spec["life_loss"] = self.parent.full_done_spec["terminated"].clone()
        return observation_spec


class ToRGBImage(ObservationTransform):
    """Turn ``pixels`` into RGB images [.. s s 3] of uint8.

    Not torchrl's ``Resize`` and ``ToTensorImage``: in 0.14.1 the one needs torchvision, the other makes floats. OpenCV
    averages areas, as for Gymnasium's and ale-py's Atari. The result never shares memory with the input: some
    environments draw every frame into the same array.

    Args:
        layout: the image's dimensions, ``"hwc"``, ``"chw"`` or ``"hw"``.
        image_size: height and width of the result ``s``.
    """

    def __init__(self, layout: str, image_size: int) -> None:
        super().__init__(in_keys=["pixels"], out_keys=["pixels"])
        self._layout, self._size = layout, (image_size, image_size)

    def _apply_transform(self, observation: Tensor) -> Tensor:
        batch, image_shape = _split_shape(observation.shape, len(self._layout))
        images = observation.reshape(-1, *image_shape)
        if images.is_floating_point():
            _check_range(images)
            images = images.mul(255).round().clamp(0, 255).to(torch.uint8)
        images = {"hwc": images, "chw": images.movedim(1, -1), "hw": images.unsqueeze(-1)}[self._layout]
        coloured = images.expand(*images.shape[:-1], 3)
        if coloured.shape[1:3] == self._size:  # as Gymnasium's and ale-py's Atari give them
            return coloured.clone(memory_format=torch.contiguous_format).reshape(*batch, *self._size, 3)
        frames = coloured.contiguous().cpu().numpy()
        resized = np.stack([cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA) for frame in frames])
        return torch.from_numpy(resized).reshape(*batch, *self._size, 3).to(observation.device)

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Replace the spec of ``pixels``."""
        batch, _ = _split_shape(observation_spec["pixels"].shape, len(self._layout))
        shape = (*batch, *self._size, 3)
        observation_spec["pixels"] = Unbounded(shape, dtype=torch.uint8, device=observation_spec.device)
        return observation_spec


SLACK = 0.01
"""How far outside 0 to 1 rounding and filters may put a float pixel."""


def _check_range(images: Tensor) -> None:
    """Raise UsageError unless floats are within 0 to 1, which a spec without bounds does not say."""
    low, high = (bound.item() for bound in images.aminmax())
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise UsageError(
            f"the environment's image has floats from {low:g} to {high:g}, and from 0 to 1 is wanted: make uint8 of "
            "those from 0 to 255, and scale others"
        )


_RENAME = "rename it by torchrl.envs.RenameTransform"


def _image_transforms(env: EnvBase, pixels_key: NestedKey, image_size: int) -> list[Transform]:
    spec = env.full_observation_spec
    if pixels_key not in spec.keys(True, True):
        images = [key for key, leaf in spec.items(True, True) if _image_layout(leaf, env.batch_dims)]
        advice = f"give pixels_key={images[0]!r}" if images else "use from_pixels=True, or another environment"
        raise UsageError(f"the environment observes {_names(spec.keys(True, True))} and no {pixels_key!r}: {advice}")
    layout = _image_layout(leaf := spec[pixels_key], env.batch_dims)
    if not layout:
        shape = list(leaf.shape[env.batch_dims :])
        raise UsageError(
            f"the environment's {pixels_key!r} is {leaf.dtype} {shape}: an image of uint8, or of floats from 0 to 1, "
            "is wanted, as [h w c], [c h w] or [h w], where c is 1 or 3"
        )
    renaming = [] if pixels_key == "pixels" else [RenameTransform([pixels_key], ["pixels"]), RemoveEmptySpecs()]
    return [*renaming, ToRGBImage(layout, image_size)]


def _image_layout(spec: TensorSpec, batch_dims: int) -> str | None:
    """``"hwc"``, ``"chw"``, ``"hw"``, or ``None`` if ``spec`` is no image."""
    bounded = not isinstance(spec, Unbounded) and hasattr(spec.space, "low")
    if spec.dtype.is_floating_point and bounded and (spec.space.low.min() < 0 or spec.space.high.max() > 1):
        return None
    if spec.dtype != torch.uint8 and not spec.dtype.is_floating_point:
        return None
    return image_layout(tuple(spec.shape[batch_dims:]))


def image_layout(shape: tuple[int, ...]) -> str | None:
    """Return the layout of an image of this shape: ``"hwc"``, ``"chw"``, ``"hw"``, or ``None`` if it is no image."""
    if len(shape) == 2:
        return "hw"
    if len(shape) != 3:
        return None
    return "hwc" if shape[-1] in (1, 3) else "chw" if shape[0] in (1, 3) else None


def _action_transforms(env: EnvBase) -> list[Transform]:
    if env.action_keys != ["action"]:
        raise UsageError(f"the environment's actions are {_names(env.action_keys)}, only 'action' is wanted: {_RENAME}")
    spec = env.action_spec
    if type(spec) is OneHot:  # MultiOneHot and Binary are kinds of it and of Categorical
        return []
    if type(spec) is Categorical:
        raise UsageError("the environment's actions are numbers: make it with categorical_action_encoding=False")
    if not _is_bounded_vector(spec, env.batch_dims):
        raise UsageError(
            f"the environment's actions are {type(spec).__name__} {spec.dtype} {list(spec.shape)}: one-hot ones are "
            "wanted, or a bounded vector of floats"
        )
    scaled = bool((spec.space.low == -1).all() and (spec.space.high == 1).all())
    rounding = [DoubleToFloat(in_keys=[], in_keys_inv=["action"])] if spec.dtype == torch.float64 else []
    return [*([] if scaled else [ActionScaling()]), *rounding]


def _is_bounded_vector(spec: TensorSpec, batch_dims: int) -> bool:
    if not spec.dtype.is_floating_point or spec.ndim != batch_dims + 1 or isinstance(spec, Unbounded):
        return False
    low, high = spec.space.low, spec.space.high
    most = torch.finfo(spec.dtype).max  # torchrl's infinity
    return bool((low.abs() < most).all() and (high.abs() < most).all() and (low < high).all())


def _split_shape(shape: torch.Size, image_dims: int) -> tuple[torch.Size, torch.Size]:
    """Batch dimensions and the image's."""
    return shape[:-image_dims], shape[-image_dims:]


def _names(keys: Iterable[NestedKey]) -> str:
    return ", ".join(map(repr, keys)) or "nothing"
