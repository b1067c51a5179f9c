"""Frames in one picture: real ones above imagined ones, with a line round what moves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.files import write_file

MAGENTA = (255, 0, 255)  # rare in games
NEARBY = 11  # pixels between two changes of one object, at most: it leaves one place and covers another
COLUMNS = 8  # frames in a row
MARGIN, LINE, GAP = 76, 16, 4  # pixels for the rows' names, for a line of the titles, between frames


def outline_changes(
    frames: Tensor, *, colour: tuple[int, int, int] = MAGENTA, threshold: int = 32, scale: int = 3
) -> Tensor:
    """Enlarge frames and draw a thin line round what differs from the frame before, without hiding any of it.

    Args:
        frames: uint8 ``[t h w 3]``, consecutive, RGB; or grey ``[t h w 1]``.
        colour: of the line.
        threshold: a pixel differs if one of its colours changes by more.
        scale: factor of the enlargement.

    Returns:
        uint8 ``[t h*scale w*scale 3]``; the first frame has no line.

    Examples:
        >>> import torch
        >>> frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
        >>> frames[1, 30:33, 40:43] = 255
        >>> outline_changes(frames).shape
        torch.Size([2, 192, 192, 3])
    """
    images = to_rgb(frames).cpu().numpy()
    outlined = [enlarge(images[0], scale)]
    for last, image in pairwise(images):
        changed = np.abs(image.astype(np.int16) - last).max(-1) > threshold
        regions, _ = cv2.findContours(enlarge(_around(changed), scale), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outlined.append(cv2.drawContours(enlarge(image, scale), regions, -1, colour, 1))
    return torch.from_numpy(np.stack(outlined))


def write_imagined(path: Path, real: Tensor, imagined: Tensor, *, scale: int = 3) -> None:
    """Write a PNG of real frames above imagined ones, changes outlined in both, as in the paper's Fig. 7.

    Args:
        path: of the file.
        real, imagined: uint8 ``[t h w 3]`` each, RGB, or grey ``[t h w 1]``, of the same steps.
        scale: factor of the enlargement.

    Raises:
        UsageError: if their shapes differ, or the file cannot be written.
    """
    if real.shape != imagined.shape:
        raise UsageError(
            f"real frames {list(real.shape)}, imagined ones {list(imagined.shape)}: give as many of a size"
        )
    rows = [outline_changes(frames, scale=scale).numpy() for frames in (real, imagined)]
    blocks = []
    for first in range(0, len(real), COLUMNS):
        steps = range(first, min(first + COLUMNS, len(real)))
        titles = [f"+{step + 1}" for step in steps]
        images = [list(frames[first : first + COLUMNS]) for frames in rows]
        blocks.append(tile(images, ["real", "imagined"], titles, columns=min(len(real), COLUMNS)))
    _, encoded = cv2.imencode(".png", cv2.cvtColor(np.concatenate(blocks), cv2.COLOR_RGB2BGR))
    write_file(path, encoded.tobytes())


def tile(
    images: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    titles: Sequence[str],
    *,
    columns: int,
    corner: str = "",
) -> np.ndarray:
    """Put images of one size into a white picture, with the rows' names on the left and the columns' titles above.

    Args:
        images: uint8 ``[h w 3]``, by row and column.
        names: of the rows.
        titles: of the columns, all of as many lines.
        columns: for which there is room.
        corner: title above the names.
    """
    height, width, _ = images[0][0].shape
    header = 4 + LINE * len(titles[0].split("\n"))
    canvas = np.full((header + len(images) * (height + GAP), MARGIN + columns * (width + GAP), 3), 255, np.uint8)
    lefts = [MARGIN + column * (width + GAP) for column in range(columns)]
    for left, title in zip([4, *lefts], [corner, *titles], strict=False):
        for line, text in enumerate(title.split("\n")):
            _write(canvas, text, left, 14 + LINE * line)
    for row, (name, of_row) in enumerate(zip(names, images, strict=True)):
        top = header + row * (height + GAP)
        _write(canvas, name, 4, top + height // 2)
        for left, image in zip(lefts, of_row, strict=False):
            canvas[top : top + height, left : left + width] = image
    return canvas


def to_rgb(frames: Tensor) -> Tensor:
    """Return frames ``[.. h w 3]`` of RGB or grey ones ``[.. h w 1]``."""
    return frames.expand(*frames.shape[:-1], 3)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Return ``image [h w ..]`` with squares of ``scale`` pixels in place of pixels."""
    return image.repeat(scale, 0).repeat(scale, 1)


def _write(canvas: np.ndarray, text: str, left: int, bottom: int) -> None:
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def _around(changed: np.ndarray) -> np.ndarray:
    """Join ``changed [h w]`` where it is near, and add a pixel all round, so that a line there hides nothing."""
    padded = np.pad(changed.astype(np.uint8), NEARBY)  # or it would be joined to the picture's edge as well
    joined = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((NEARBY, NEARBY), np.uint8))
    return cv2.dilate(joined, np.ones((3, 3), np.uint8))[NEARBY:-NEARBY, NEARBY:-NEARBY]
