"""The replay on disk: the same ring after it, wrapped or not, written once, and none of the future in it."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from torchrl_glam.data import make_replay, newest_records
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.runs.checkpoint import ReplayFiles, read_records, read_state, write_state


def make(capacity: int = 10, num_envs: int = 1):
    return make_replay(capacity, sequences=(4, 3), contexts=(2, 2), num_envs=num_envs)


def records(start: int, stop: int) -> TensorDict:
    """Records whose every entry tells their number."""
    numbers = torch.arange(start, stop)
    flag = (numbers % 3 == 0)[:, None]
    outcome = {"reward": numbers[:, None].float(), "terminated": flag, "done": flag, "life_loss": flag}
    pixels = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 8, 8, 3).clone()
    action = torch.nn.functional.one_hot(numbers % 5, 5)
    return TensorDict({"pixels": pixels, "action": action, "next": outcome}, batch_size=[stop - start])


def numbers(found: TensorDict) -> list[int]:
    return found["next", "reward"].flatten().int().tolist()


@pytest.mark.parametrize("written", [3, 10, 14, 27])
def test_a_ring_comes_back_as_it_was(tmp_path, written):
    replay, contexts = make()
    files = ReplayFiles(replay, tmp_path, "one")
    for number in range(written):
        replay.extend(records(number, number + 1))
        if number % 4 == 1:
            state = files.state_dict()
    state = files.state_dict()
    replay.extend(records(200, 204))  # the future: not in the state

    restored, other_contexts = make()
    restored.extend(records(210, 214))  # whatever was in it is gone
    ReplayFiles(restored, tmp_path, "one").load_state_dict(state)
    again, _ = make()
    again.extend(records(0, 1))
    for number in range(1, written):
        again.extend(records(number, number + 1))
    assert len(restored) == len(again) == min(written, 10)
    assert (restored[:] == again[:]).all()
    for one in (restored, again):
        one.extend(records(100, 103))
    assert numbers(newest_records(restored, 3)) == [100, 101, 102]
    assert (restored[:] == again[:]).all()
    torch.manual_seed(0)
    drawn = [again.sample(), restored.sampler.write_count]
    torch.manual_seed(0)
    assert (restored.sample() == drawn[0]).all()
    assert drawn[1] == written + 3
    if written > 3:
        assert other_contexts.sample().shape == contexts.sample().shape


def test_only_new_records_are_written(tmp_path):
    replay, _ = make(1000)
    files = ReplayFiles(replay, tmp_path, "one")
    replay.extend(records(0, 50))
    files.state_dict()
    (first,) = tmp_path.iterdir()
    before = first.stat().st_mtime_ns
    replay.extend(records(50, 55))
    files.state_dict()
    files.state_dict()
    assert first.stat().st_mtime_ns == before
    second = next(path for path in tmp_path.iterdir() if path != first)
    assert second.stat().st_size < first.stat().st_size / 3
    assert len(list(tmp_path.iterdir())) == 2


def test_chunks_that_left_the_ring_go_when_no_checkpoint_needs_them(tmp_path):
    replay, _ = make(10)
    files = ReplayFiles(replay, tmp_path, "one")
    states = []
    for start in range(0, 40, 5):
        replay.extend(records(start, start + 5))
        states.append(files.state_dict())
        (tmp_path / ".records-unfinished.one.part").touch()
        files.prune(states[-2:])
    assert sorted(path.name[8:20] for path in tmp_path.iterdir()) == ["000000000025", "000000000030", "000000000035"]
    for state in states[-2:]:
        restored, _ = make(10)
        ReplayFiles(restored, tmp_path, "one").load_state_dict(state)
        assert len(restored) == 10
    with pytest.raises(DamagedError, match="is missing"):
        ReplayFiles(replay, tmp_path, "one").load_state_dict(states[0])


def test_only_this_runs_own_files_ever_go(tmp_path):
    other, _ = make(10)
    other.extend(records(0, 7))
    ReplayFiles(other, tmp_path, "two").state_dict()
    for name in ("my-records-of-1999.txt", ".records-a.two.part", "records-000000000000-000000000003.safetensors"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "records-000000000000-000000000004.safetensors").symlink_to(tmp_path / "elsewhere")
    foreign = {path.name for path in tmp_path.iterdir()}
    replay, _ = make(10)
    files = ReplayFiles(replay, tmp_path, "one")
    for start in range(0, 25, 5):
        replay.extend(records(start, start + 5))
        files.prune([files.state_dict()])
    assert {path.name for path in tmp_path.iterdir()} >= foreign
    assert len(list(tmp_path.iterdir())) == len(foreign) + 2


def test_a_chunk_is_not_written_over_somebody_elses_file(tmp_path):
    name = "records-000000000000-000000000005.safetensors"
    (tmp_path / name).write_text("mine")
    replay, _ = make(10)
    replay.extend(records(0, 5))
    ReplayFiles(replay, tmp_path, "one").state_dict()
    assert (tmp_path / f"rejected-{name}").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"rejected-{name}"}


def test_a_chunk_that_a_killed_process_left_goes(tmp_path):
    killed, _ = make(10)
    killed.extend(records(0, 3))
    ReplayFiles(killed, tmp_path, "one").state_dict()
    replay, _ = make(10)
    files = ReplayFiles(replay, tmp_path, "one")
    replay.extend(records(0, 5))
    files.prune([files.state_dict()])
    assert [path.name[21:33] for path in tmp_path.iterdir()] == ["000000000005"]


def test_more_records_than_the_ring_holds_between_two_states(tmp_path):
    replay, _ = make(10)
    files = ReplayFiles(replay, tmp_path, "one")
    for number in range(25):
        replay.extend(records(number, number + 1))
    state = files.state_dict()
    assert [(chunk["start"], chunk["stop"]) for chunk in state["chunks"]] == [(15, 25)]
    restored, _ = make(10)
    ReplayFiles(restored, tmp_path, "one").load_state_dict(state)
    assert (restored[:] == replay[:]).all()


def test_records_of_several_environments_come_back_in_turns(tmp_path):
    replay, _ = make(12, num_envs=2)
    files = ReplayFiles(replay, tmp_path / "replay", "one")
    both = torch.stack([records(0, 7), records(50, 57)])
    for step in both.split(1, dim=1):
        replay.extend(step)
    state = files.state_dict()
    assert numbers(read_records(tmp_path)[0::2]) == [1, 2, 3, 4, 5, 6]  # 14 were written, 12 are held
    restored, _ = make(12, num_envs=2)
    ReplayFiles(restored, tmp_path / "replay", "one").load_state_dict(state)
    assert (restored[:] == replay[:]).all()


def test_records_are_read_by_their_numbers(tmp_path):
    replay, _ = make(100)
    files = ReplayFiles(replay, tmp_path / "replay", "one")
    for start, stop in ((0, 30), (30, 40), (40, 41)):
        replay.extend(records(start, stop))
        files.state_dict()
    assert (read_records(tmp_path) == records(0, 41)).all()
    assert (read_records(tmp_path, 28, 33) == records(28, 33)).all()
    assert numbers(read_records(tmp_path, 40)) == [40]
    with pytest.raises(UsageError, match="holds no records 41"):
        read_records(tmp_path, 41, 50)
    with pytest.raises(UsageError, match="holds no records"):
        read_records(tmp_path / "nowhere")


def test_a_changed_chunk_is_named(tmp_path):
    replay, _ = make(100)
    files = ReplayFiles(replay, tmp_path, "one")
    replay.extend(records(0, 5))
    state = files.state_dict()
    write_state(tmp_path / "state", state)
    (chunk,) = tmp_path.glob("records-*")
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{chunk.name} is damaged"):
        ReplayFiles(make(100)[0], tmp_path, "one").load_state_dict(read_state(tmp_path / "state"))
