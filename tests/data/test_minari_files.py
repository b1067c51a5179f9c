"""A Minari dataset is there whole or not at all, wherever it is written."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from minari.data_collector import EpisodeBuffer

from torchrl_glam.data import minari_files
from torchrl_glam.data.minari_files import check_new_dataset, datasets_root, write_dataset
from torchrl_glam.errors import UsageError

SPACES = {"observation_space": Box(-1, 1, (2,), np.float32), "action_space": Discrete(3)}


def make_episode(number, steps=3):
    return EpisodeBuffer(
        observations=np.full((steps + 1, 2), number / 8, np.float32),
        actions=np.arange(steps),
        rewards=np.full(steps, float(number)),
        terminations=np.arange(steps) == steps - 1,
        truncations=np.zeros(steps, bool),
    )


def test_episodes_come_back_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/elsewhere")
    write_dataset("tests/one-v0", (make_episode(number) for number in range(4)), root=tmp_path, **SPACES)
    assert os.environ["MINARI_DATASETS_PATH"] == "/elsewhere"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = list(minari.load_dataset("tests/one-v0").iterate_episodes())
    assert [episode.rewards.tolist() for episode in episodes] == [[float(number)] * 3 for number in range(4)]
    assert episodes[2].observations.tolist() == [[0.25, 0.25]] * 4
    assert minari.list_local_datasets().keys() == {"tests/one-v0"}


def test_environment_and_references_are_kept(tmp_path, monkeypatch):
    spec = gymnasium.spec("CartPole-v1")
    options = {"ref_min_score": 20.5, "ref_max_score": 500.0, "description": "what it is", "env": spec, **SPACES}
    write_dataset("tests/one-v0", [make_episode(1)], root=tmp_path, **options)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("tests/one-v0")
    metadata = dataset.storage.metadata
    assert dataset.env_spec.id == "CartPole-v1"
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (20.5, 500.0)
    assert metadata["description"] == "what it is"


def test_a_root_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_dataset("tests/one-v0", [make_episode(1)], root=Path("some", "sets"), **SPACES)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "some" / "sets"))
    assert minari.load_dataset("tests/one-v0").total_steps == 3


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    def fail_after_one():
        yield make_episode(0)
        raise UsageError("the source is damaged")

    with pytest.raises(UsageError, match=r"^the source is damaged$"):
        write_dataset("tests/one-v0", fail_after_one(), root=tmp_path, **SPACES)
    assert list(tmp_path.iterdir()) == []


def test_the_root_is_that_of_minari_unless_one_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/some/where")
    assert datasets_root() == Path("/some/where")
    assert datasets_root(tmp_path) == tmp_path
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    assert datasets_root() == Path.home() / ".minari" / "datasets"


@pytest.mark.parametrize("name", ["plain", "a-vx", "../up-v0", "with space-v0", ""])
def test_a_malformed_id_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(UsageError, match=r"^dataset_id=.* is malformed: write name-v0 or namespace/name-v0$"):
        check_new_dataset(name, tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_a_taken_id_is_refused(tmp_path):
    write_dataset("tests/one-v0", [make_episode(0)], root=tmp_path, **SPACES)
    before = (tmp_path / "tests/one-v0/data/main_data.hdf5").read_bytes()
    with pytest.raises(UsageError, match=r"^dataset_id=tests/one-v0 exists already in \S+: choose another name"):
        write_dataset("tests/one-v0", [make_episode(1)], root=tmp_path, **SPACES)
    assert (tmp_path / "tests/one-v0/data/main_data.hdf5").read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^root=\S+/file cannot be written \(File exists\): choose another folder$"):
        check_new_dataset("tests/one-v0", tmp_path / "file")
    check_new_dataset("tests/one-v0", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_without_minari(tmp_path, monkeypatch):
    monkeypatch.setattr(minari_files, "has_minari", False)
    with pytest.raises(UsageError, match=r'missing: pip install "torchrl_glam\[minari\]"$'):
        check_new_dataset("tests/one-v0", tmp_path)
