"""Steps of a training in a file, and episodes for Minari."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.teachers import (
    COUNTING,
    COUNTING_DISCRETE,
    check_episode,
    play,
)
from torchrl_glam.errors import DamagedError
from torchrl_glam.offline.teachers.recording import (
    ENTRIES,
    episode_return,
    first_steps,
    is_whole,
    read_steps,
    to_buffer,
)


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_the_record_of_a_training_is_all_that_was_played(teachers, name):
    teacher, _ = teachers[name]
    episodes = read_steps(teacher.folder / "steps.safetensors", 96)
    for episode in episodes:
        check_episode(episode)
    # Each environment's episodes are in a row, and what it had begun at the end is left out.
    numbers = {int(episode["observations"][0, 0]) for episode in episodes}
    assert len(numbers) == 2
    for number in numbers:
        own = [episode for episode in episodes if episode["observations"][0, 0] == number]
        turns = [int(episode["observations"][0, 1]) for episode in own]
        assert turns == list(range(turns[0], turns[0] + len(own)))
        assert 48 - 5 < sum(len(episode["rewards"]) for episode in own) <= 48
    turns = [int(episode["observations"][0, 1]) for episode in episodes]
    assert turns == sorted(turns)  # in the order in which they ended: the two play in step
    first = read_steps(teacher.folder / "steps.safetensors", 32)
    assert 32 - 2 * 5 < sum(len(episode["rewards"]) for episode in first) <= 32
    assert all(np.array_equal(a["actions"], b["actions"]) for a, b in zip(first, episodes, strict=False))


def test_damaged_steps_are_noticed(teachers, tmp_path):
    file = tmp_path / "steps.safetensors"
    with pytest.raises(DamagedError, match="damaged"):
        read_steps(file, 96)
    file.write_bytes((teachers[COUNTING][0].folder / "steps.safetensors").read_bytes()[:-9])
    with pytest.raises(DamagedError, match="damaged"):
        read_steps(file, 96)
    snapshot = next(teachers[COUNTING][0].folder.glob("policy-*"))
    with pytest.raises(DamagedError, match="holds no steps of a training"):
        read_steps(snapshot, 96)


def make_episode(length, whole=True):
    episode = {name: np.zeros(length, dtype) for name, dtype in ENTRIES.items()}
    episode["observations"] = np.arange(length + 1.0)[:, None]
    episode["terminations"][-1] = whole
    return episode


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (None, [(3, True), (4, True), (2, True)]),
        (7, [(3, True), (4, True)]),
        (6, [(3, True), (3, False)]),
        (8, [(3, True), (4, True), (1, False)]),
        (1, [(1, False)]),
        (99, [(3, True), (4, True), (2, True)]),
    ],
)
def test_whole_episodes_up_to_a_number_of_steps(limit, wanted):
    cut = list(first_steps(map(make_episode, (3, 4, 2)), limit))
    assert [(len(episode["rewards"]), is_whole(episode)) for episode in cut] == wanted
    assert all(len(episode["observations"]) == len(episode["rewards"]) + 1 for episode in cut)


def test_a_cut_episode_is_truncated_and_ends_with_a_real_observation():
    episode = next(episode for episode in play(COUNTING, 12) if len(episode["rewards"]) == 5)
    (cut,) = first_steps([episode], 3)
    buffer = to_buffer(cut)
    assert buffer.observations[:, 2].tolist() == [0, 1, 2, 3]
    assert buffer.observations.dtype == "float32"
    assert (buffer.terminations.tolist(), buffer.truncations.tolist()) == ([False] * 3, [False, False, True])
    whole = to_buffer(episode)
    assert (whole.terminations.any(), whole.truncations.tolist()) == (False, [False] * 4 + [True])
    assert whole.rewards.sum() == episode_return(episode) == 15
