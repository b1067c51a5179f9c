"""A run in a folder where something else is: refused in one line, and nothing is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.configs import load
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.folder import RunFolder


def options(folder: Path, *overrides: str) -> GLAMConfig:
    return load("preset=debug", f"run_dir={folder}", *overrides)


@pytest.mark.parametrize("resume", ["auto", "force"])
@pytest.mark.parametrize(
    "name",
    [
        "metrics/mydata.csv",
        "metrics/2024/survey.csv",
        "replay/my-records-of-1999.txt",
        "checkpoints/.git/HEAD",
        "media/holiday.png",
        "tensorboard/events",
        "wandb/notes",
        "config.yaml",
        "run.json",
        "result.json",
        "weights.safetensors",
        "metrics",
    ],
)
def test_a_new_run_is_refused_where_its_own_places_are_taken(name, resume, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    with pytest.raises(UsageError, match="holds files of something else") as refusal:
        RunFolder(options(tmp_path, f"resume={resume}"))
    assert name.split("/")[0] in str(refusal.value)
    assert path.read_text() == "{}"


def test_files_elsewhere_in_the_folder_disturb_nobody(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "metrics").mkdir()
    RunFolder(options(tmp_path)).release()


@pytest.mark.parametrize("name", ["metrics", "checkpoints", "replay", "media", "config.yaml", "weights.safetensors"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_run_writes_through_no_link(name, begun, tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    if begun:
        run = RunFolder(options(folder))
        run.take()
        run.release()
        (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(UsageError, match=f"{name} is a symbolic link"):
        RunFolder(options(folder))


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    RunFolder(options(tmp_path / "run")).release()


def test_a_run_that_was_killed_before_it_wrote_its_options_starts_again(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"id": "ab", "processes": []}))
    folder = RunFolder(options(tmp_path))
    assert (folder.run_id, folder.holds_run) == ("ab", False)
    folder.release()


@pytest.mark.parametrize("known", ["../../other", "", 7, ["a"]])
def test_an_id_that_is_none_is_not_taken(known, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"id": known}))
    with pytest.raises(UsageError, match=r"holds files of something else .*run\.json"):
        RunFolder(options(tmp_path))


def test_checkpoints_are_a_run_also_without_its_options(tmp_path):
    (tmp_path / "checkpoints" / "checkpoint-000000000010").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"config\.yaml with their options is missing"):
        RunFolder(options(tmp_path))
    with pytest.raises(UsageError, match="already holds a run"):
        RunFolder(options(tmp_path, "resume='false'"))
    folder = RunFolder(options(tmp_path, "resume=force"))
    assert folder.holds_run
    folder.release()
