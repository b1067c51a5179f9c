"""Loggers: their files, a resumed run in them, a missing package in one line."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from torchrl_glam.config import GLAMConfig
from torchrl_glam.config import Logger as LoggerName
from torchrl_glam.errors import UsageError
from torchrl_glam.runs import loggers as module
from torchrl_glam.runs.loggers import close_loggers, log_media, make_loggers
from torchrl_glam.tools.pictures.videos import write_video

TENSORBOARD, WANDB = GLAMConfig(logger=LoggerName.tensorboard), GLAMConfig(logger=LoggerName.wandb)


def log_all(loggers: list[Any], name: str, steps: range, value: float) -> None:
    for logger in loggers:
        for step in steps:
            logger.log_metrics({name: value + step}, step=step)


def read_events(folder: Path) -> EventAccumulator:
    """Return TensorBoard's view of a run's folder."""
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


@pytest.fixture
def wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weights & Biases without a network or an account, in a home folder of its own; that folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", "")  # to be taken back after make_loggers has set it
    monkeypatch.delenv("WANDB_CACHE_DIR")
    wandb.teardown()
    yield home
    wandb.teardown()


def read_wandb(path: Path) -> Iterator[Record]:
    """The records of an offline run's file: LevelDB's log format, after 7 bytes of wandb's (0.31)."""
    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (rest := 32_768 - position % 32_768) < 7:  # a block's end, left empty
            position += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # all of it, or the last part
            yield Record.FromString(record)
            record = b""


@pytest.mark.parametrize("config", [GLAMConfig(), TENSORBOARD])
def test_csv_files_are_always_written(config, tmp_path):
    loggers = make_loggers(config, tmp_path)
    log_all(loggers, "world_model/loss_reward", range(10, 40, 10), 0.5)
    assert (tmp_path / "metrics/scalars/world_model/loss_reward.csv").read_text() == "10,10.5\n20,20.5\n30,30.5\n"
    close_loggers(loggers)
    resumed = make_loggers(config, tmp_path, first_frame=30)
    log_all(resumed, "world_model/loss_reward", range(40, 50, 10), 0.5)
    close_loggers(resumed)
    assert (tmp_path / "metrics/scalars/world_model/loss_reward.csv").read_text().endswith("30,30.5\n40,40.5\n")


def test_nothing_else_is_written_by_default(tmp_path):
    close_loggers(make_loggers(GLAMConfig(), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path):
    killed = make_loggers(TENSORBOARD, tmp_path)
    log_all(killed, "policy/entropy", range(100, 700, 100), 0.0)
    for logger in killed:
        logger.flush()  # as at a checkpoint, and no more: it is killed
    resumed = make_loggers(TENSORBOARD, tmp_path, first_frame=300)
    log_all(resumed, "policy/entropy", range(400, 600, 100), 0.5)
    close_loggers(resumed)
    points = read_events(tmp_path).Scalars("policy/entropy")
    assert [(point.step, point.value) for point in points] == [
        (100, 100),
        (200, 200),
        (300, 300),
        (400, 400.5),
        (500, 500.5),
    ]


def test_tensorboard_has_the_options_once(tmp_path):
    config = GLAMConfig(logger=LoggerName.tensorboard, seed=7)
    for first_frame in (0, 100):
        close_loggers(make_loggers(config, tmp_path, first_frame=first_frame))
    assert all(path.is_file() for path in (tmp_path / "tensorboard").iterdir())  # not one folder more for each start
    events = read_events(tmp_path).summary_metadata["_hparams_/session_start_info"]
    start = HParamsPluginData.FromString(events.plugin_data.content).session_start_info
    assert start.hparams["seed"].number_value == 7
    assert start.hparams["env.name"].string_value == "ALE/Pong-v5"
    assert start.hparams["env.protocol"].string_value == "glam"
    assert start.hparams["world_model.channels"].string_value == "[32, 64, 128, 256]"
    second = max((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert b"hparams" not in second.read_bytes()


def test_tensorboard_gets_the_video_as_it_is(tmp_path):
    video = tmp_path / "a.gif"
    write_video(video, torch.randint(256, (5, 8, 16, 3), dtype=torch.uint8), scale=2)
    loggers = make_loggers(TENSORBOARD, tmp_path)
    log_media(loggers, "media/imagined", video, 500)
    close_loggers(loggers)
    (image,) = read_events(tmp_path).Images("media/imagined")
    assert (image.step, image.width, image.height) == (500, 32, 16)
    assert image.encoded_image_string == video.read_bytes()
    assert not list((tmp_path / "metrics/videos").iterdir())


def test_wandb_works_offline_within_the_folder_and_goes_on_as_the_same_run(tmp_path, wandb_offline):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    video = folder / "a.gif"
    write_video(video, torch.randint(256, (5, 8, 8, 3), dtype=torch.uint8))
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    for first_frame in (0, 300):
        loggers = make_loggers(WANDB, folder, first_frame=first_frame)
        log_all(loggers, "policy/entropy", range(first_frame + 100, first_frame + 400, 100), 0.0)
        log_media(loggers, "media/imagined", video, first_frame + 300)
        close_loggers(loggers)
    wandb.teardown()  # as at the process's end, for what is not in the file yet
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]

    assert not list(wandb_offline.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["a.gif", "metrics", "wandb"]
    assert (folder / "metrics/scalars/policy/entropy.csv").exists()
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert len(files) == 2
    records = [record for path in files for record in read_wandb(path)]
    runs = [record.run for record in records if record.HasField("run")]
    identity = (folder / "wandb/run_id.txt").read_text().strip()
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {(identity, "torchrl_glam", "mine")}
    history = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    points = [(int(row["policy/step"]), float(row["policy/entropy"])) for row in history if "policy/entropy" in row]
    assert points == [(step, step) for step in (100, 200, 300, 400, 500, 600)]
    assert [int(row["media/step"]) for row in history if "media/imagined/path" in row] == [300, 600]
    assert len(list(folder.glob("wandb/offline-run-*/files/media/videos/media/*.gif"))) == 2
    options = {item.key: item.value_json for record in records for item in record.config.update}
    assert options["seed"] == "0"


def test_wandb_without_an_account_says_how_to_do_without(tmp_path, wandb_offline, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(UsageError, match=r"logger=wandb cannot start \(.+\): set WANDB_MODE=offline") as error:
        make_loggers(WANDB, tmp_path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("config", [TENSORBOARD, WANDB])
def test_a_missing_package_is_named_with_its_extra(config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_available", {config.logger: False})
    with pytest.raises(UsageError, match=rf'logger={config.logger.value} .*pip install "torchrl_glam\['):
        make_loggers(config, tmp_path)
    assert not list(tmp_path.iterdir())
