"""Videos read back: order, colours and timing; OpenCV agrees with Pillow, which wrote them, on what is in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.pictures.videos import write_video


def striped(number: int) -> Tensor:
    """Frames ``[t 6 8 3]`` with 8 columns of saturated colours, of which the first tells the number."""
    colours = torch.tensor([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], dtype=torch.uint8)
    frames = colours.expand(number, 6, 8, 3).clone()
    frames[:, :, 0, 0] = 10 * torch.arange(number, dtype=torch.uint8)[:, None]
    return frames


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """Frames ``[t h w 3]`` as shown, and how many milliseconds each is."""
    shown, durations = [], []
    with Image.open(path) as video:
        for number in range(video.n_frames):
            video.seek(number)
            shown.append(np.asarray(video.convert("RGB")))
            durations.append(video.info["duration"])
    return np.stack(shown), durations


def test_every_frame_comes_in_order_with_its_colours_enlarged(tmp_path):
    frames = striped(20)
    write_video(tmp_path / "new" / "a.gif", frames, scale=3)
    shown, _ = read(tmp_path / "new" / "a.gif")
    assert shown.shape == (20, 18, 24, 3)
    np.testing.assert_array_equal(shown[:, ::3, ::3], frames.numpy())
    np.testing.assert_array_equal(shown[:, 2::3, 2::3], frames.numpy())
    _, animation = cv2.imreadanimation(str(tmp_path / "new" / "a.gif"))
    np.testing.assert_array_equal(np.stack(animation.frames)[..., 2::-1], shown)  # OpenCV has BGR and a mask
    assert animation.loop_count == 0  # for ever


@pytest.mark.parametrize(("fps", "milliseconds"), [(15, {60, 70}), (10, {100}), (50, {20}), (0.5, {2000})])
def test_the_rate_is_kept_on_average(fps, milliseconds, tmp_path):
    write_video(tmp_path / "a.gif", striped(20), fps=fps)
    _, durations = read(tmp_path / "a.gif")
    assert set(durations) == milliseconds
    assert sum(durations) == pytest.approx(20_000 / fps, abs=5)


def test_still_frames_last_as_long_as_they_should(tmp_path):
    frames = striped(2).repeat_interleave(10, 0)
    write_video(tmp_path / "a.gif", frames, fps=10)
    shown, durations = read(tmp_path / "a.gif")
    assert sum(durations) == 2000
    np.testing.assert_array_equal(shown[-1, ::3, ::3], frames[-1].numpy())


def test_many_colours_are_close(tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4, 8, 8, 3, generator=generator).movedim(-1, 1)
    smooth = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bilinear").movedim(1, -1)
    frames = smooth.mul(255).to(torch.uint8)
    assert len(frames[0].reshape(-1, 3).unique(dim=0)) > 2000
    write_video(tmp_path / "a.gif", frames, scale=1)
    shown, _ = read(tmp_path / "a.gif")
    assert np.abs(shown.astype(int) - frames.numpy()).mean() < 10  # of all colours there are; a game's are fewer


def test_one_frame_is_a_video_too(tmp_path):
    write_video(tmp_path / "a.gif", striped(1))
    with Image.open(tmp_path / "a.gif") as video:
        assert video.n_frames == 1


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(2, 8, 8, 3), striped(2)[0], striped(2)[..., :2], striped(2)[:0]],
    ids=["floats", "one frame", "two channels", "no frames"],
)
def test_other_frames_are_refused(frames, tmp_path):
    with pytest.raises(UsageError, match=r"a video wants uint8 \[t h w 3\]"):
        write_video(tmp_path / "a.gif", frames)


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan")])
def test_other_rates_are_refused(fps, tmp_path):
    with pytest.raises(UsageError, match="fps="):
        write_video(tmp_path / "a.gif", striped(2), fps=fps)


def test_what_cannot_be_written_is_one_line_and_leaves_the_old_video(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    write_video(path, striped(2))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"a\.gif cannot be written \(No space left on device\)") as error:
        write_video(path, striped(3))
    assert len(str(error.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
