"""Images: which arrays are some, and how they become ``pixels``."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import ObservationTransform

from torchrl_glam.errors import UsageError

COLORS = ("rgb", "grey", "native")
"""Channels of ``pixels``: 3, 1, or as many as the environment's image has."""

SMALLEST = 16
"""Least height and width of an image that nobody names as one: smaller ones are grids of symbols, as MiniGrid's."""

SLACK = 0.01
"""How far outside 0 to 1 rounding and filters may put a float pixel."""


def image_layout(shape: tuple[int, ...]) -> str | None:
    """Return the layout of an image of this shape: ``"hwc"``, ``"chw"``, ``"hw"``, or ``None`` if it is no image."""
    if len(shape) == 2:
        return "hw"
    if len(shape) != 3:
        return None
    return "hwc" if shape[-1] in (1, 3) else "chw" if shape[0] in (1, 3) else None


def image_sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of an image of this shape, which has a layout."""
    start = 1 if image_layout(shape) == "chw" else 0
    return shape[start], shape[start + 1]


def spec_layout(spec: TensorSpec, batch_dims: int) -> str | None:
    """Return the layout of a TorchRL spec's images: of uint8, or of floats from 0 to 1 or without bounds."""
    bounded = not isinstance(spec, Unbounded) and hasattr(spec.space, "low")
    if spec.dtype.is_floating_point and bounded and (spec.space.low.min() < 0 or spec.space.high.max() > 1):
        return None
    if spec.dtype != torch.uint8 and not spec.dtype.is_floating_point:
        return None
    return image_layout(tuple(spec.shape[batch_dims:]))


def looks_like_image(spec: TensorSpec, batch_dims: int) -> bool:
    """Return whether a spec is an image's even if nobody says so: large enough, and no matrix of unbounded floats."""
    layout, shape = spec_layout(spec, batch_dims), tuple(spec.shape[batch_dims:])
    if layout is None or min(image_sides(shape)) < SMALLEST:
        return False
    return layout != "hw" or spec.dtype == torch.uint8 or not isinstance(spec, Unbounded)


class ToImage(ObservationTransform):
    """Turn ``pixels`` into images [.. h w c] of uint8.

    Not torchrl's ``Resize`` and ``ToTensorImage``: in 0.14.1 the one needs torchvision, the other makes floats. OpenCV
    averages areas, as for Gymnasium's and ale-py's Atari. The result never shares memory with the input: some
    environments draw every frame into the same array.

    Args:
        shape: the image's, without batch dimensions.
        image_size: height and width of the result; ``None``: the image's own.
        color: of :data:`COLORS`.
    """

    def __init__(self, shape: tuple[int, ...], image_size: int | None = 64, color: str = "rgb") -> None:
        super().__init__(in_keys=["pixels"], out_keys=["pixels"])
        layout = image_layout(shape)
        assert layout is not None, f"{shape} is no image's shape"
        self._layout, self._color = layout, color
        self._size = image_sides(shape) if image_size is None else (image_size, image_size)
        own = {"hwc": shape[-1], "chw": shape[0], "hw": 1}[layout]
        self._channels = {"rgb": 3, "grey": 1, "native": own}[color]

    def _apply_transform(self, observation: Tensor) -> Tensor:
        batch, image_shape = _split_shape(observation.shape, len(self._layout))
        images = observation.reshape(-1, *image_shape)
        if images.is_floating_point():
            _check_range(images)
            images = images.mul(255).round().clamp(0, 255).to(torch.uint8)
        images = {"hwc": images, "chw": images.movedim(1, -1), "hw": images.unsqueeze(-1)}[self._layout]
        return self._draw(images).reshape(*batch, *self._size, self._channels)

    def _draw(self, images: Tensor) -> Tensor:
        """Give images [n h w c] the color and the size."""
        if self._channels == 1 < images.shape[-1]:
            frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in images.contiguous().cpu().numpy()]
            images = torch.from_numpy(np.stack(frames)[..., None]).to(images.device)
        colored = images.expand(*images.shape[:-1], self._channels)
        if colored.shape[1:3] == self._size:  # as Gymnasium's and ale-py's Atari give them
            return colored.clone(memory_format=torch.contiguous_format)
        width_first = self._size[::-1]
        frames = [
            cv2.resize(frame, width_first, interpolation=cv2.INTER_AREA) for frame in colored.contiguous().cpu().numpy()
        ]
        return torch.from_numpy(np.stack(frames)).to(images.device)

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Replace the spec of ``pixels``."""
        batch, _ = _split_shape(observation_spec["pixels"].shape, len(self._layout))
        shape = (*batch, *self._size, self._channels)
        observation_spec["pixels"] = Unbounded(shape, dtype=torch.uint8, device=observation_spec.device)
        return observation_spec


def _check_range(images: Tensor) -> None:
    """Raise UsageError unless floats are within 0 to 1, which a spec without bounds does not say."""
    low, high = (bound.item() for bound in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(
            "the environment's image has a number that is not finite, and from 0 to 1 is wanted: mend the environment"
        )
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise UsageError(
            f"the environment's image has floats from {low:g} to {high:g}, and from 0 to 1 is wanted: make uint8 of "
            "those from 0 to 255, and scale others"
        )


def _split_shape(shape: torch.Size, image_dims: int) -> tuple[torch.Size, torch.Size]:
    """Batch dimensions and the image's."""
    return shape[:-image_dims], shape[-image_dims:]
