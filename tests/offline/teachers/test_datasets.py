"""Datasets of every quality from one teacher."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.teachers import (
    COUNTING,
    COUNTING_DISCRETE,
    check_episode,
    make_config,
    play,
)
from torchrl_glam.offline.teachers import (
    Teacher,
    record_dataset,
)
from torchrl_glam.offline.teachers.config import (
    Quality,
    Until,
)
from torchrl_glam.offline.teachers.recording import (
    to_buffer,
)


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_recorded_episodes_are_whole_but_for_the_last(name):
    episodes = play(name, 20)
    assert sum(len(episode["rewards"]) for episode in episodes) == 20
    for episode in episodes[:-1]:
        check_episode({entry: np.array(values) for entry, values in episode.items()})
        actions = np.array(episode["actions"])
        assert ((actions >= -2) & (actions <= 3)).all()
    assert to_buffer(episodes[-1]).truncations[-1]


@pytest.mark.parametrize("quality", list(Quality))
def test_datasets_of_every_quality(teachers, quality, tmp_path, monkeypatch):
    import minari

    teacher, config = teachers[COUNTING_DISCRETE]
    config = make_config(COUNTING_DISCRETE, quality=quality, steps=None if quality is Quality.replay else 21)
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: teacher.snapshots[1])
    made = record_dataset(teacher, config, "tests/one-v0", tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("tests/one-v0")
    episodes = list(dataset.iterate_episodes())
    assert (dataset.total_steps, dataset.total_episodes) == (made.steps, len(made.returns))
    assert [episode.rewards.sum() for episode in episodes] == made.returns
    assert {episode.terminations[-1] + episode.truncations[-1] for episode in episodes} == {1}
    assert 64 - 2 * 5 < made.steps <= 64 if quality is Quality.replay else made.steps == 21
    assert dataset.env_spec.id == "CountingTaskDiscrete-v0"
    assert {action for episode in episodes for action in episode.actions.tolist()} <= {0, 1}
    metadata = dataset.storage.metadata
    assert metadata["ref_min_score"] == pytest.approx(teacher.random_score)
    assert metadata["ref_max_score"] == pytest.approx(teacher.expert_score)
    assert all(
        word in metadata["description"] for word in ("quality " + quality.value, "PPO of stable-baselines3", "96 steps")
    )


def test_half_of_each_where_medium_is_the_expert(teachers, tmp_path, monkeypatch):
    teacher, _ = teachers[COUNTING_DISCRETE]
    expert = next(snapshot for snapshot in teacher.snapshots if snapshot.frame == teacher.expert)
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: expert)
    config = make_config(COUNTING_DISCRETE, quality=Quality.mixed, steps=21)
    assert record_dataset(teacher, config, "tests/half-v0", tmp_path).steps == 21


def test_the_replay_of_the_whole_training(teachers, tmp_path, monkeypatch):
    teacher, _ = teachers[COUNTING]
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: teacher.snapshots[0])
    config = make_config(quality=Quality.replay, until=Until.end)
    made = record_dataset(teacher, config, "tests/all-v0", tmp_path)
    assert 96 - 2 * 5 < made.steps <= 96
    config = make_config(quality=Quality.replay)
    assert 32 - 2 * 5 < record_dataset(teacher, config, "tests/first-v0", tmp_path).steps <= 32
