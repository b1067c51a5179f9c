"""Vectors over time: a panel for each dimension, its scale, and what is left out."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from torchrl_glam.tools.pictures import traces
from torchrl_glam.tools.pictures.traces import HEIGHT, LEFT, LINE, WIDTH, draw_traces, write_traces

BLACK, VERMILION = np.array([0, 0, 0]), np.array([213, 94, 0])
PANEL = (LINE + HEIGHT + 8, LEFT + WIDTH)


def panel(picture, row, column):
    """The inside of a panel's frame."""
    top, left = LINE + 8 + row * PANEL[0] + LINE, column * PANEL[1] + LEFT
    return picture[top + 1 : top + HEIGHT, left + 1 : left + WIDTH - 8]


def places(inside, colour):
    """Where a colour is, by row and column."""
    return np.nonzero(np.abs(inside.astype(int) - colour).max(-1) < 40)


def test_each_dimension_has_a_panel_of_its_own_scale():
    real = torch.stack([torch.linspace(-1, 1, 30), 1e3 * torch.linspace(1, -1, 30), torch.full((30,), 7.0)], -1)
    picture = draw_traces({"real": real[None]})
    assert picture.shape == (LINE + 8 + PANEL[0], 3 * PANEL[1], 3)
    rising, falling, still = (places(panel(picture, 0, column), BLACK) for column in range(3))
    for up, across, sign in ((*rising, -1), (*falling, 1)):
        assert np.corrcoef(up, across)[0, 1] * sign > 0.99
        assert up.max() - up.min() > 0.8 * HEIGHT
        assert across.max() - across.min() > 0.9 * (WIDTH - 8)
    assert still[0].max() - still[0].min() <= 2
    assert abs(still[0].mean() - HEIGHT / 2) < 4


def test_a_guess_far_off_does_not_flatten_what_is_real():
    real, off = torch.linspace(-1, 1, 30)[None, :, None], torch.full((1, 30, 1), 1e9)
    off[0, 15:] = float("nan")
    inside = panel(draw_traces({"real": real, "imagined": off}), 0, 0)
    up, _ = places(inside, BLACK)
    assert up.max() - up.min() > 0.4 * HEIGHT
    up, _ = places(inside, VERMILION)
    assert len(up)


def test_sixteen_dimensions_are_drawn_and_the_others_named(monkeypatch):
    written = []
    write = traces._write
    monkeypatch.setattr(
        traces, "_write", lambda canvas, text, *place: written.append(text) or write(canvas, text, *place)
    )
    assert draw_traces({"real": torch.randn(1, 5, 30)}).shape[0] == 2 * (LINE + 8) + 4 * PANEL[0]
    assert written[-1] == "30 dimensions; 16 to 29 are not drawn"
    assert "15" in written
    written.clear()
    assert draw_traces({"real": torch.randn(2, 5, 16), "imagined": torch.randn(2, 5, 16)}, ["12", "345"]).shape == (
        LINE + 8 + 16 * PANEL[0],
        2 * PANEL[1],
        3,
    )
    assert {"real", "imagined", "steps 1 to 5", "0, from 12", "15, from 345"} <= set(written)


def test_a_single_step_is_a_file_too(tmp_path):
    write_traces(tmp_path / "new" / "a.png", {"real": torch.zeros(1, 1, 2)})
    assert cv2.imread(str(tmp_path / "new" / "a.png")).shape == (LINE + 8 + PANEL[0], 2 * PANEL[1], 3)
