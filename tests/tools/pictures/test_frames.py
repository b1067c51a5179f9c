"""Pictures of imagination: what moves is outlined, nothing is hidden, all frames are there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.pictures.frames import outline_changes, write_imagined

RED = (255, 0, 0)
SCALE = 3


def moving_square(steps: int = 4, size: int = 12, speed: int = 3) -> Tensor:
    """A yellow square that falls on black ``[t 64 64 3]``, from row 8 on in columns 20 and following."""
    frames = torch.zeros(steps, 64, 64, 3, dtype=torch.uint8)
    for step in range(steps):
        top = 8 + speed * step
        frames[step, top : top + size, 20 : 20 + size, :2] = 255
    return frames


def enlarged(frames: Tensor) -> Tensor:
    return frames.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)


def outline(frames: Tensor, **options) -> Tensor:
    """Where the line is ``[t h w]``; everything else is as in the frames."""
    outlined = outline_changes(frames, colour=RED, scale=SCALE, **options)
    line = (outlined == torch.tensor(RED)).all(-1)
    assert torch.equal(torch.where(line[..., None], 0, outlined), torch.where(line[..., None], 0, enlarged(frames)))
    return line


def test_one_line_goes_round_what_moved_and_hides_nothing_of_it():
    line = outline(moving_square())
    assert not line[0].any()  # nothing is known before it
    for step in (1, 2, 3):
        rows, columns = (torch.nonzero(line[step].any(axis)).flatten() // SCALE for axis in (1, 0))
        # The square was at 8 + 3 (step - 1) and is at 8 + 3 step: the line keeps one pixel's distance from both.
        assert (rows.min(), rows.max()) == (8 + 3 * (step - 1) - 1, 8 + 3 * step + 12)
        assert (columns.min(), columns.max()) == (19, 32)
        inside = line[step, (8 + 3 * (step - 1)) * SCALE : (8 + 3 * step + 12) * SCALE, 20 * SCALE : 32 * SCALE]
        assert not inside.any()


def test_still_frames_have_no_line():
    assert not outline(moving_square(speed=0)).any()


def test_what_moves_far_apart_has_lines_of_its_own():
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[1, 10:12, 10:12] = frames[1, 40:42, 50:52] = 255
    line = outline(frames)[1].numpy().astype(np.uint8)
    assert cv2.connectedComponents(line)[0] == 3  # with the background


def test_a_line_ends_at_the_edge_only_if_what_moved_is_there():
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[1, 4:8, 30:34] = 255
    assert not outline(frames)[1, : 3 * SCALE].any()
    frames[1, 0:8, 30:34] = 255
    assert outline(frames)[1, 0].any()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_small_changes_are_noise_in_each_colour(channel):
    frames = torch.full((3, 64, 64, 3), 100, dtype=torch.uint8)
    frames[1, 30:40, 30:40, channel] = 110
    frames[2, 30:40, 30:40, channel] = 99
    assert not outline(frames, threshold=11).any()
    assert outline(frames, threshold=10)[2].any()
    assert not outline(frames, threshold=10)[1].any()


def test_a_picture_has_each_step_real_above_imagined(tmp_path):
    real = moving_square(10)
    imagined = real.flip(2)
    write_imagined(tmp_path / "new" / "imagined.png", real, imagined)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "imagined.png")), cv2.COLOR_BGR2RGB)
    assert picture.shape == (
        2 * (20 + 2 * 196),
        76 + 8 * 196,
        3,
    )  # two blocks of 8 columns, frames of 192 and 4 between
    for row, frames in enumerate((real, imagined)):
        wanted = outline_changes(frames).numpy()
        for step in range(10):
            top, left = step // 8 * 412 + 20 + row * 196, 76 + step % 8 * 196
            np.testing.assert_array_equal(picture[top : top + 192, left : left + 192], wanted[step])
    assert picture[:20, 76:].min() < 255  # the steps' numbers
    assert picture[20:412, :76].min() < 255  # the rows' names


def test_fewer_steps_make_a_smaller_picture(tmp_path):
    write_imagined(tmp_path / "a.png", moving_square(2), moving_square(2), scale=1)
    assert cv2.imread(str(tmp_path / "a.png")).shape == (20 + 2 * 68, 76 + 2 * 68, 3)


def test_frames_of_different_steps_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"real frames \[4, 64, 64, 3\], imagined ones \[3, 64, 64, 3\]"):
        write_imagined(tmp_path / "a.png", moving_square(4), moving_square(3))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"a\.png cannot be written \(.+\): make room, or choose") as error:
        write_imagined(tmp_path / "file" / "a.png", moving_square(), moving_square())
    assert len(str(error.value).splitlines()) == 1
