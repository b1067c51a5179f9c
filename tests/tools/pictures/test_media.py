"""Media of a run: files with the step's number, also for the loggers, and a run that does not change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensordict import TensorDict

from tests.support.observed import KINDS
from tests.support.observed import make_batch as make_real
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.runs.loggers import close_loggers, make_loggers
from torchrl_glam.tools.pictures.media import write_episode, write_media


@pytest.fixture
def world_model(make_world_model: Any) -> GLAMWorldModel:
    return make_world_model()


@pytest.fixture
def records(make_batch: Any) -> TensorDict:
    return make_batch(1)[0]


def test_a_picture_and_a_video_of_real_beside_imagined(tmp_path, world_model, records):
    write_media(tmp_path, [], 10_000, world_model, records, context_length=3)
    assert sorted(path.name for path in (tmp_path / "media").iterdir()) == [
        "imagined-000010000.gif",
        "imagined-000010000.png",
    ]
    with Image.open(tmp_path / "media/imagined-000010000.gif") as video:
        assert (video.n_frames, video.size) == (5, (3 * (8 + 2 + 8), 3 * 8))
        video.seek(4)
        shown = np.asarray(video.convert("RGB")).astype(int)[::3, ::3]
    assert np.abs(shown[:, :8] - records["pixels"][7].numpy()).mean() < 5  # the real frame on the left
    assert np.abs(shown[:, 10:] - records["pixels"][7].numpy()).mean() > 20


def test_the_run_does_not_change(tmp_path, world_model, records):
    before, given = copy.deepcopy(world_model.state_dict()), records.clone()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    write_media(tmp_path / "a", [], 100, world_model, records, context_length=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(entry, before[name]) for name, entry in world_model.state_dict().items())
    assert all(parameter.grad is None for parameter in world_model.parameters())
    assert not world_model.training
    assert (records == given).all()
    # A run that was killed and resumed draws the same picture again.
    write_media(tmp_path / "b", [], 100, world_model, records, context_length=3)
    for ending in ("png", "gif"):
        name = f"media/imagined-000000100.{ending}"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.gpu
def test_neither_do_random_numbers_of_a_gpu_change(tmp_path, world_model, records):
    state = torch.cuda.get_rng_state()
    write_media(tmp_path, [], 100, world_model.cuda(), records.cuda(), context_length=3)
    assert torch.equal(state, torch.cuda.get_rng_state())


def test_csv_loggers_get_no_video(tmp_path, world_model, records):
    loggers = make_loggers(GLAMConfig(), tmp_path)
    write_media(tmp_path, loggers, 100, world_model, records, context_length=3)
    close_loggers(loggers)
    assert not [path for path in (tmp_path / "metrics").rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, world_model, records):
    (tmp_path / "media").touch()
    with pytest.raises(UsageError, match=r"imagined-000000100\.png cannot be written"):
        write_media(Path(tmp_path), [], 100, world_model, records, context_length=3)


@pytest.mark.parametrize("kind", ["vector", "mixed", "grey", "mixed difference"])
def test_files_of_every_kind_of_observation(kind, tmp_path, make_world_model):
    world_model = make_world_model(**KINDS[kind], marks_starts=True)
    records = make_real(world_model, 1)[0]
    write_media(tmp_path, [], 100, world_model, records, context_length=3)
    written = write_episode(tmp_path / "media" / "evaluation.gif", records.select(*world_model.observation_keys))
    names = {"pixels": {".png", ".gif"}, "observation": {"-traces.png"}}
    wanted = {f"imagined-000000100{end}" for key in world_model.observation_keys for end in names[key]}
    ends = {"pixels": ".gif", "observation": "-traces.png"}
    episode = {f"evaluation{ends[key]}" for key in world_model.observation_keys}
    assert {path.name for path in written} == episode
    assert {path.name for path in (tmp_path / "media").iterdir()} == wanted | episode
