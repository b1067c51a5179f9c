"""Frames beside each other: which are compared with which, and what the errors say."""

from __future__ import annotations

import csv

import pytest
import torch
from torchrl.data import OneHot

from tests.support.observed import KINDS
from tests.support.observed import make_batch as make_real
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.tools.pictures.comparison import (
    Comparison,
    compare_imagination,
    describe_errors,
    draw_comparison,
    plot_errors,
    write_errors,
)


@pytest.fixture
def records(make_batch):
    return make_batch(batch=2, time=9)


@pytest.fixture
def compared(make_world_model, records):
    torch.manual_seed(1)
    return compare_imagination(GLAMImaginedEnv(make_world_model(), OneHot(3)), records, 5)["pixels"]


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
        compared.append(compare_imagination(env, other, 5)["pixels"].frames["imagined"])
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
    write_errors(tmp_path / "errors.csv", {"pixels": compared}, ["12", "345"])
    rows = list(csv.DictReader((tmp_path / "errors.csv").read_text().splitlines()))
    assert [(row["start"], row["step"]) for row in rows] == [(s, str(t)) for s in ("12", "345") for t in range(1, 5)]
    for name, errors in compared.errors.items():
        read = torch.tensor([float(row[name.replace(" ", "_")]) for row in rows], dtype=torch.float64)
        torch.testing.assert_close(read, errors.flatten(), atol=1e-6, rtol=0)


def test_a_perfect_reconstruction_errs_by_nothing():
    frames = {name: torch.full((1, 2, 4, 4, 3), 7, dtype=torch.uint8) for name in ("real", "reconstructed", "imagined")}
    compared = Comparison(frames, still=frames["real"][:, 0])
    assert str(compared) == "reconstructed 0.0000, imagined 0.0000, context frame 0.0000"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_observation(kind, make_world_model, tmp_path):
    world_model = make_world_model(**KINDS[kind])
    records = make_real(world_model, time=9)
    compared = compare_imagination(GLAMImaginedEnv(world_model, OneHot(3)), records, 5)
    assert tuple(compared) == world_model.observation_keys
    for key, own in compared.items():
        assert torch.equal(own.frames["real"], records[key][:, 5:])
        assert torch.equal(own.still, records[key][:, 4])
        assert [error.shape for error in own.errors.values()] == 3 * [(2, 4)]
    if "pixels" in compared:
        assert draw_comparison(compared["pixels"], ["12", "345"]).shape[-1] == 3
    write_errors(tmp_path / "errors.csv", compared, ["12", "345"])
    plot_errors(tmp_path / "errors.png", compared)
    titles = (tmp_path / "errors.csv").read_text().splitlines()[0].split(",")[2:]
    entries = [f"{key}_" for key in compared] if len(compared) > 1 else [""]
    assert titles == [f"{key}{name}" for key in entries for name in ("reconstructed", "imagined", "context_frame")]
    assert describe_errors(compared).count("imagined") == len(compared)


def test_errors_of_a_vector_are_in_symlog_space(make_world_model):
    real = torch.tensor([[[0.0, 9.0]]])
    compared = Comparison({"real": real, "imagined": torch.tensor([[[torch.e - 1, 9.0]]])}, still=real[:, 0])
    assert compared.errors["imagined"].item() == pytest.approx(0.5)


def test_differences_are_those_to_the_step_before(make_world_model):
    """The first frame that is compared is reconstructed with the last one of the context as the one before."""
    world_model = make_world_model(**KINDS["mixed difference"])
    records, given = make_real(world_model, time=9), []
    world_model.encode = lambda *inputs, encode=world_model.encode: given.append(inputs) or encode(*inputs)
    compare_imagination(GLAMImaginedEnv(world_model, OneHot(3)), records, 5)
    now, before = given[0]
    assert torch.equal(now["pixels"][:, 5], records["pixels"][:, 5])
    assert torch.equal(before["pixels"][:, 5], records["pixels"][:, 4])
