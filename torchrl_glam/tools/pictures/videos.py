"""Videos that open anywhere: GIF files."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.pictures.frames import to_rgb

MAX_FPS = 50  # browsers slow faster ones down to 10


def write_video(path: Path, frames: Tensor, *, fps: float = 15, scale: int = 3) -> None:
    """Write frames as a GIF that plays in a loop, completely or not at all.

    OpenCV 5.0's ``imwriteanimation`` is no substitute: it dithers every video to the same 256 colours. For 48 frames
    of Breakout its file is 13 times as large, and off by 6 of 255 on average. Here each frame has 256 colours of its
    own, which a game's frames seldom exceed.

    Args:
        path: of the file; its folder is made if it is missing.
        frames: uint8 ``[t h w 3]``, RGB, or grey ``[t h w 1]``.
        fps: frames per second, kept on average: a GIF counts in hundredths of a second.
        scale: factor of the enlargement.

    Raises:
        UsageError: for other frames or rates, or if the file cannot be written.

    Examples:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "noise.gif", torch.randint(256, (30, 64, 64, 3), dtype=torch.uint8))
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or len(frames) == 0:
        came = f"{frames.dtype} {list(frames.shape)}"
        raise UsageError(f"the frames are {came}: a video wants uint8 [t h w 3], or grey [t h w 1]")
    if not 0 < fps <= MAX_FPS:
        raise UsageError(f"fps={fps:g}: a GIF shows more than 0 and at most {MAX_FPS} frames per second")
    first, *others = (_picture(frame, scale) for frame in to_rgb(frames).cpu())
    ends = [round(100 * number / fps) for number in range(len(frames) + 1)]
    durations = [10 * (end - start) for start, end in pairwise(ends)]
    encoded = io.BytesIO()
    first.save(encoded, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    write_file(path, encoded.getvalue())


def _picture(frame: Tensor, scale: int) -> Image.Image:
    """Return a frame ``[h w 3]`` in its 256 colours, enlarged."""
    image = Image.fromarray(frame.contiguous().numpy())
    colours = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return colours.resize((colours.width * scale, colours.height * scale), Image.Resampling.NEAREST)
