"""Frames to latent logits and back, by matrix products over patches: the autoencoder for a CPU.

``b`` any leading shape, ``n`` frames, ``h w`` pixels, ``gh gw`` patches, ``k c`` categoricals and classes, ``kc`` both
flattened, ``f`` features. Convolutions with few channels use a CPU badly; the same number of
multiplications as products of large matrices takes a fraction of their time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchrl_glam.modules.autoencoders.base import FrameEncoder
from torchrl_glam.modules.autoencoders.padding import Padding

MERGED = 2  # by height and width, what a further stage merges


def _side(patch: int, widths: Sequence[int]) -> int:
    """Return the side in pixels of what is merged at last."""
    return patch * MERGED ** (len(widths) - 1)


def to_patches(grid: Float[Tensor, "n h w x"], side: int) -> Float[Tensor, "n gh gw y"]:
    """Cut a grid into squares of ``side``, each flattened: ``y = side * side * x``."""
    number, height, width, size = grid.shape
    cut = grid.reshape(number, height // side, side, width // side, side, size).transpose(2, 3)
    return cut.reshape(number, height // side, width // side, side * side * size)


def from_patches(patches: Float[Tensor, "n gh gw y"], side: int) -> Float[Tensor, "n h w x"]:
    """Undo :func:`to_patches`."""
    number, height, width, _ = patches.shape
    cut = patches.reshape(number, height, width, side, side, -1).transpose(2, 3)
    return cut.reshape(number, height * side, width * side, -1)


def _norm_and_activation(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.ReLU(inplace=True))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), _norm_and_activation(outputs))


class PatchEncoder(FrameEncoder):
    """Encoder q(z | x) over patches, in place of :class:`~torchrl_glam.modules.autoencoders.image.ImageEncoder`.

    Patches of ``patch x patch`` pixels, then again and again 2 x 2 of what the stage before returned, each through
    Linear (no bias), LayerNorm, ReLU; at last flatten and one linear layer to the logits, unimixed.

    Args:
        image_shape: (height, width, channels) of a frame.
        channels: outputs of each stage.
        num_categoricals: ``k``.
        num_classes: ``c``.
        unimix: uniform share of each categorical.
        patch: side of a patch in pixels.
        difference: see :class:`~torchrl_glam.modules.autoencoders.base.FrameEncoder`.

    Frames that the merged patches do not cover exactly are padded with zeros.

    Raises:
        UsageError: if ``image_shape`` is none.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        channels: Sequence[int] = (32, 64, 128),
        num_categoricals: int = 32,
        num_classes: int = 32,
        unimix: float = 0.01,
        patch: int = 4,
        difference: bool = False,
    ) -> None:
        super().__init__(num_categoricals, num_classes, unimix, difference)
        self.padding = Padding(image_shape, _side(patch, channels))
        colours = image_shape[2] * (1 + difference)
        self.patches = nn.Conv2d(colours, channels[0], patch, patch, bias=False)  # reads frames as they lie
        self.norm = _norm_and_activation(channels[0])
        self.stages = nn.ModuleList(_stage(MERGED**2 * inputs, outputs) for inputs, outputs in pairwise(channels))
        self.add_head(math.prod(self.padding.grid) * channels[-1])

    def layers(self, frames: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n f"]:
        """See :class:`~torchrl_glam.modules.autoencoders.base.FrameEncoder`."""
        grid = self.norm(self.patches(self.padding.pad(frames)).movedim(-3, -1))
        for stage in self.stages:
            grid = stage(to_patches(grid, MERGED))
        return grid.flatten(1)


class Unmerge(nn.Module):
    """The inverse of the encoder's merging, as a layer."""

    def forward(self, patches: Float[Tensor, "n gh gw y"]) -> Float[Tensor, "n h w x"]:
        """Return the grid."""
        return from_patches(patches, MERGED)


class PatchDecoder(nn.Module):
    """Mirror of :class:`PatchEncoder`, from latent sample to frame; the last layer has a bias and no norm.

    Every pixel has a bias of its own besides, grey at first: what never changes need not be in the latent.

    Args:
        image_shape: (height, width, channels) of a frame.
        channels: the encoder's, first stage first.
        state_size: width of the flattened latent, ``k * c``.
        patch: side of a patch in pixels.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (64, 64, 3),
        channels: Sequence[int] = (32, 64, 128),
        state_size: int = 1024,
        patch: int = 4,
    ) -> None:
        super().__init__()
        self.padding, self.patch = Padding(image_shape, _side(patch, channels)), patch
        self.head = nn.Linear(state_size, math.prod(self.padding.grid) * channels[-1], bias=False)
        self.norm = _norm_and_activation(channels[-1])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, MERGED**2 * outputs, bias=False), Unmerge(), _norm_and_activation(outputs))
            for inputs, outputs in pairwise(reversed(channels))
        )
        self.patches = nn.Linear(channels[0], patch * patch * image_shape[2])
        height, width, colours = image_shape
        self.background = nn.Parameter(torch.full((colours, height, width), 0.5))

    def forward(self, state: Float[Tensor, "*b kc"]) -> Float[Tensor, "*b channels h w"]:
        """Decode to frames, on the 0..1 scale but not bounded to it."""
        grid = self.norm(self.head(state.reshape(-1, state.shape[-1])).unflatten(-1, (*self.padding.grid, -1)))
        for stage in self.stages:
            grid = stage(grid)
        frames = self.padding.crop(from_patches(self.patches(grid), self.patch).movedim(-1, -3)) + self.background
        return frames.reshape(*state.shape[:-1], *frames.shape[-3:])
