"""Frames of any height and width for networks that halve them again and again."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from torchrl_glam.errors import UsageError


class Padding:
    """Rows and columns of zeros, at the bottom and on the right, that make height and width multiples of a side.

    Args:
        image_shape: (height, width, channels) of a frame.
        side: what one cell of the grid covers.

    Attributes:
        grid: height and width in cells.

    Raises:
        UsageError: if ``image_shape`` is no such shape.
    """

    def __init__(self, image_shape: Sequence[int], side: int) -> None:
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise UsageError(f"image_shape is {tuple(image_shape)}: give (height, width, channels)")
        self.height, self.width, _ = image_shape
        self.grid = (-(-self.height // side), -(-self.width // side))
        self.missing = (self.grid[0] * side - self.height, self.grid[1] * side - self.width)

    def pad(self, frames: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b padded_h padded_w"]:
        """Add what is missing."""
        return F.pad(frames, (0, self.missing[1], 0, self.missing[0])) if any(self.missing) else frames

    def crop(self, frames: Float[Tensor, "*b padded_h padded_w"]) -> Float[Tensor, "*b h w"]:
        """Leave out what was added."""
        return frames[..., : self.height, : self.width]
