"""Records are read from a run's folder in parts, and cut where episodes end."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tests.support.saved import save_run
from torchrl_glam.errors import UsageError
from torchrl_glam.runs import records
from torchrl_glam.runs.records import RecordedWindows, record_range, stream_episodes, stream_records

COUNTING = ("env.name=tests.support.games:CountingGame-v0", "env.frame_skip=1")  # episodes have 41, 30, 27, 35 steps
TWO = (*COUNTING, "env.num_envs=2", "total_frames=240")


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(records, "AT_ONCE", 33)


def check_equal(read, played):
    assert torch.equal(read["pixels"], played["pixels"])
    assert torch.equal(read["action"], played["action"])
    for key in ("reward", "terminated", "done", "life_loss"):
        assert torch.equal(read["next", key], played["next", key])


def test_records_come_in_parts_that_are_all(tmp_path, few_at_once):
    played = save_run(tmp_path / "run", *COUNTING, played=(10, 100, 40))
    parts = list(stream_records(tmp_path / "run"))
    assert [len(part) for part in parts] == [33, 33, 33, 33, 18]
    check_equal(torch.cat(parts), played)
    assert record_range(tmp_path / "run") == range(150)


def test_episodes_are_cut_at_their_ends(tmp_path, few_at_once):
    played = save_run(tmp_path / "run", *COUNTING, played=(10, 100, 40))
    episodes = list(stream_episodes(tmp_path / "run"))
    assert [(len(episode), ended) for episode, ended in episodes] == [
        (30, True),
        (27, True),
        (35, True),
        (41, True),
        (17, False),
    ]
    check_equal(torch.cat([episode for episode, _ in episodes]), played)


def test_environments_are_taken_apart(tmp_path, few_at_once):
    played = save_run(tmp_path / "run", *TWO, played=(100, 140))
    episodes = list(stream_episodes(tmp_path / "run", 2))
    found = [next(i for i, (one, _) in enumerate(episodes) if same(one, wanted)) for wanted in split(played)]
    assert sorted(found) == list(range(len(episodes)))
    assert [ended for _, ended in episodes].count(False) == 2
    assert [ended for _, ended in episodes[-2:]] == [False, False]


def split(played):
    """Each environment's episodes, one environment after the other."""
    for steps in played:
        ends = [0, *(steps["next", "done"].flatten().nonzero().flatten() + 1).tolist(), len(steps)]
        yield from (steps[start:stop] for start, stop in pairwise(ends))


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in ("pixels", "action"))


def test_windows_hold_no_end_of_an_episode_but_at_their_last_record(tmp_path, few_at_once):
    played = save_run(tmp_path / "run", *TWO, played=(100, 140))
    windows = RecordedWindows(tmp_path / "run", 2)
    done = played["next", "done"][..., 0]
    assert windows.longest == 41
    for length in (1, 2, 27, 35, 41):
        wanted = [
            2 * first + env
            for first in range(120 - length + 1)
            for env in range(2)
            if not done[env, first : first + length - 1].any()
        ]
        assert windows.starts(length).tolist() == wanted
    for number in (0, 1, 90, 113):
        read = windows.read(number, 7)
        check_equal(read, played[number % 2, number // 2 : number // 2 + 7])


def test_a_window_longer_than_all(tmp_path):
    save_run(tmp_path / "run", *COUNTING)
    assert RecordedWindows(tmp_path / "run").starts(42).tolist() == []
    for length in (151, 152, 500):  # of 150 records
        assert RecordedWindows(tmp_path / "run").starts(length).tolist() == []


def test_the_oldest_records_may_be_gone(tmp_path):
    played = save_run(tmp_path / "run", *COUNTING, played=(50, 50, 50))
    (tmp_path / "run/replay/records-000000000000-000000000050.safetensors").unlink()
    assert record_range(tmp_path / "run") == range(50, 150)
    episodes = list(stream_episodes(tmp_path / "run"))
    assert [len(episode) for episode, _ in episodes] == [7, 35, 41, 17]
    check_equal(torch.cat([episode for episode, _ in episodes]), played[50:])
    windows = RecordedWindows(tmp_path / "run")
    assert windows.starts(35).tolist() == [57, *range(92, 99)]
    check_equal(windows.read(98, 35), played[98:133])


def test_missing_records_are_missed(tmp_path):
    save_run(tmp_path / "run", *COUNTING, played=(50, 50, 50))
    (tmp_path / "run/replay/records-000000000050-000000000100.safetensors").unlink()
    with pytest.raises(UsageError, match=r"run/replay lacks the records 50 to 99: restore the missing file$"):
        next(stream_episodes(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"nothing holds no records: give the run_dir of a run"):
        RecordedWindows(tmp_path / "nothing")


def test_a_damaged_file_is_named(tmp_path):
    save_run(tmp_path / "run", *COUNTING, played=(50, 100))
    path = tmp_path / "run/replay/records-000000000050-000000000150.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"records-000000000050-000000000150.safetensors is damaged"):
        list(stream_episodes(tmp_path / "run"))
