"""Frames beside each other: which are compared with which, and what the errors say."""

from __future__ import annotations

import csv

import pytest
import torch
from torchrl.data import OneHot

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.tools.pictures.comparison import (
    Comparison,
    compare_imagination,
    draw_comparison,
    write_errors,
)


@pytest.fixture
def records(make_batch):
    return make_batch(batch=2, time=9).select("pixels", "action")


@pytest.fixture
def compared(make_world_model, records):
    torch.manual_seed(1)
    return compare_imagination(GLAMImaginedEnv(make_world_model(), OneHot(3)), records, 5)


def test_frames_are_those_of_the_same_steps(compared, records, make_world_model):
    world_model = make_world_model()
    assert [frames.shape for frames in compared.frames.values()] == 3 * [(2, 4, 8, 8, 3)]
    assert torch.equal(compared.frames["real"], records["pixels"][:, 5:])
    with torch.no_grad():
        probabilities = world_model.encoder(records["pixels"][:, 5:])[0].exp()
    assert not torch.equal(compared.frames["reconstructed"], compared.frames["imagined"])
    assert (probabilities.max(-1).values < 1).all(), "the latents are samples"


def test_actions_matter(make_world_model, records):
    env = GLAMImaginedEnv(make_world_model(), OneHot(3))
    compared = []
    for changed in (None, 6, 8):  # the step after the context, and the last one, from whose action nothing follows
        other = records.clone()
        if changed is not None:
            other["action"][:, changed] = other["action"][:, changed].roll(1, -1)
        torch.manual_seed(7)
        compared.append(compare_imagination(env, other, 5).frames["imagined"])
    assert torch.equal(compared[0], compared[2])
    assert torch.equal(compared[0][:, :2], compared[1][:, :2])
    assert not torch.equal(compared[0][:, 2:], compared[1][:, 2:])


def test_errors_are_mean_absolute_differences_of_one(compared, records):
    real = records["pixels"].double() / 255
    for name in ("reconstructed", "imagined"):
        wanted = (compared.frames[name].double() / 255 - real[:, 5:]).abs().mean((-1, -2, -3))
        torch.testing.assert_close(compared.errors[name], wanted)
    wanted = (real[:, 4:5] - real[:, 5:]).abs().mean((-1, -2, -3))
    torch.testing.assert_close(compared.errors["context frame"], wanted)
    means = [f"{name} {error.mean():.4f}" for name, error in compared.errors.items()]
    assert str(compared) == ", ".join(means)


def test_the_drawing_holds_every_frame(compared):
    video = draw_comparison(compared, ["12", "345"], scale=2)
    assert video.shape == (4, 36 + 2 * 20, 76 + 3 * 20, 3)
    for step in range(4):
        for column, frames in enumerate(compared.frames.values()):
            for row in range(2):
                top, left = 36 + row * 20, 76 + column * 20
                part = video[step, top : top + 16, left : left + 16]
                assert torch.equal(part[::2, ::2], frames[row, step])
                assert torch.equal(part[1::2, 1::2], frames[row, step])
    assert (video[:, :36] < 128).any((1, 2, 3)).all(), "there are words above"
    assert (video[:, 36:, :76] < 128).any((1, 2, 3)).all(), "and beside"


def test_the_table_holds_every_error(compared, tmp_path):
    write_errors(tmp_path / "errors.csv", compared, ["12", "345"])
    rows = list(csv.DictReader((tmp_path / "errors.csv").read_text().splitlines()))
    assert [(row["start"], row["step"]) for row in rows] == [(s, str(t)) for s in ("12", "345") for t in range(1, 5)]
    for name, errors in compared.errors.items():
        read = torch.tensor([float(row[name.replace(" ", "_")]) for row in rows], dtype=torch.float64)
        torch.testing.assert_close(read, errors.flatten(), atol=1e-6, rtol=0)


def test_a_perfect_reconstruction_errs_by_nothing():
    frames = {name: torch.full((1, 2, 4, 4, 3), 7, dtype=torch.uint8) for name in ("real", "reconstructed", "imagined")}
    compared = Comparison(frames, still=frames["real"][:, 0])
    assert str(compared) == "reconstructed 0.0000, imagined 0.0000, context frame 0.0000"
