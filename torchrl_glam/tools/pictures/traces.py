"""Vectors over time: a small panel for each dimension, drawn with OpenCV, which every installation has.

``r`` rows, each of steps of its own; ``t`` steps; ``n`` numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from torchrl_glam.presentation import BLACK, BLUE, VERMILION
from torchrl_glam.runs.files import write_file

MOST = 16
"""Dimensions that are drawn, in their order."""
COLUMNS = 4  # panels side by side, of a single row of steps
WIDTH, HEIGHT, LEFT, LINE = 220, 84, 60, 16  # pixels of a panel, of the room for its numbers, of a line of text
COLOURS = {"reconstructed": BLUE, "imagined": VERMILION}  # all else is black
FINE = 3  # bits of a pixel's fraction, in OpenCV's drawing


def write_traces(path: Path, traces: Mapping[str, Tensor], rows: Sequence[str] = ("",), *, first: int = 1) -> None:
    """Write a PNG of :func:`draw_traces`, completely or not at all.

    Raises:
        UsageError: if the file cannot be written.
    """
    picture = draw_traces(traces, rows, first=first)
    write_file(path, cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def draw_traces(traces: Mapping[str, Tensor], rows: Sequence[str] = ("",), *, first: int = 1) -> np.ndarray:
    """Draw vectors over time: a panel for each of the first 16 dimensions, and of several rows for each of them.

    Args:
        traces: ``[r t n]`` by name: ``real``, and the guesses ``reconstructed`` and ``imagined``; they share panels.
        rows: names of the rows.
        first: number of the first step.

    Returns:
        uint8 ``[h w 3]``. Panels of a dimension share their scale: that of the first trace, and of the others as far
        as they keep near it.

    Examples:
        >>> import torch
        >>> draw_traces({"real": torch.randn(1, 30, 5), "imagined": torch.randn(1, 30, 5)}).shape
        (240, 1120, 3)
    """
    values = {name: np.nan_to_num(trace.double().cpu().numpy()) for name, trace in traces.items()}
    number = next(iter(values.values())).shape[-1]
    shown = min(number, MOST)
    columns = len(rows) if len(rows) > 1 else min(COLUMNS, shown)
    panels = []
    for dimension in range(shown):
        scale = _scale([trace[..., dimension] for trace in values.values()])
        for row, start in enumerate(rows):
            title = f"{dimension}, from {start}" if len(rows) > 1 else f"{dimension}"
            panels.append(_panel({name: trace[row, :, dimension] for name, trace in values.items()}, scale, title))
    empty = np.full_like(panels[0], 255)
    panels += [empty] * (-len(panels) % columns)
    lines = [np.concatenate(panels[start : start + columns], 1) for start in range(0, len(panels), columns)]
    width = lines[0].shape[1]
    last = first + next(iter(values.values())).shape[1] - 1
    return np.concatenate([_legend(list(values), first, last, width), *lines, _rest(shown, number, width)])


def _scale(traces: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the lowest and the highest number of a panel: an outlier of a guess does not flatten all the rest."""
    low, high = float(traces[0].min()), float(traces[0].max())
    span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)  # of what does not change, some
    lowest, highest = min(trace.min() for trace in traces), max(trace.max() for trace in traces)
    low, high = max(lowest, low - span), min(highest, high + span)
    missing = max(0.0, span - (high - low)) / 2
    return float(low - missing), float(high + missing)


def _panel(traces: Mapping[str, np.ndarray], scale: tuple[float, float], title: str) -> np.ndarray:
    """Draw traces ``[t]`` over each other, the first one below."""
    canvas = np.full((HEIGHT + LINE + 8, LEFT + WIDTH, 3), 255, np.uint8)
    top, bottom, right = LINE, LINE + HEIGHT, LEFT + WIDTH - 8
    cv2.rectangle(canvas, (LEFT, top), (right, bottom), (200, 200, 200))
    _write(canvas, title, LEFT, top - 4)
    for number, height in zip(scale, (bottom, top + 10), strict=True):
        _write(canvas, f"{number:.3g}", 2, height)
    low, high = scale
    for name, trace in traces.items():
        across = np.linspace(LEFT, right, len(trace)) if len(trace) > 1 else np.array([(LEFT + right) / 2])
        up = bottom - 2 - (HEIGHT - 4) * (trace.clip(low, high) - low) / (high - low)
        points = np.rint(np.stack([across, up], -1) * 2**FINE).astype(np.int32)
        if len(points) == 1:
            points = points.repeat(2, 0)
        cv2.polylines(canvas, [points], False, _rgb(COLOURS.get(name, BLACK)), 1, cv2.LINE_AA, FINE)
    return canvas


def _legend(names: Sequence[str], first: int, last: int, width: int) -> np.ndarray:
    canvas = np.full((LINE + 8, width, 3), 255, np.uint8)
    left = 4
    for name in names:
        _write(canvas, name, left, LINE, COLOURS.get(name, BLACK))
        left += 14 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
    _write(canvas, f"steps {first} to {last}", left, LINE)
    return canvas


def _rest(shown: int, number: int, width: int) -> np.ndarray:
    """Return the line on dimensions that are not drawn, if there are any."""
    canvas = np.full((LINE + 8 if shown < number else 0, width, 3), 255, np.uint8)
    if shown < number:
        _write(canvas, f"{number} dimensions; {shown} to {number - 1} are not drawn", 4, LINE)
    return canvas


def _write(canvas: np.ndarray, text: str, left: int, bottom: int, colour: str = BLACK) -> None:
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _rgb(colour), 1, cv2.LINE_AA)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
