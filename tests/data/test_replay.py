"""The replay: what it keeps, which windows it draws, where it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from torchrl_glam.data.replay import OTHERS, make_replay, newest_records
from torchrl_glam.errors import UsageError

KEYS = ("pixels", *OTHERS)
NUM_ENVS = 3


def records(number: int, start: int = 0, shape: tuple[int, ...] = (8, 8, 3)) -> TensorDict:
    """Records whose reward is their number in time."""
    flags = torch.zeros(number, 1, dtype=torch.bool)
    after = {
        "reward": torch.arange(start, start + number, dtype=torch.float32)[:, None],
        "terminated": flags,
        "done": flags,
        "life_loss": flags,
        "pixels": torch.zeros(number, *shape, dtype=torch.uint8),
    }
    return TensorDict(
        {
            "pixels": torch.randint(0, 256, (number, *shape), dtype=torch.uint8),
            "action": torch.eye(4, dtype=torch.int64).repeat(number // 4 + 1, 1)[:number],
            "collector": {"traj_ids": torch.zeros(number)},
            "next": after,
        },
        [number],
    )


def times(batch: TensorDictBase) -> Tensor:
    """The records' numbers in time [b t]."""
    return batch["next", "reward"].squeeze(-1).long()


def assert_consecutive(batch: TensorDictBase) -> None:
    assert (times(batch).diff(dim=1) == 1).all()


def test_a_record_is_kept_as_bytes_and_without_extra_keys() -> None:
    replay, contexts = make_replay(10, sequences=(2, 5), contexts=(3, 4))
    batch = records(10, shape=(64, 64, 3))
    replay.extend(batch)
    assert "index" not in batch, "the caller's batch stays as it was"
    assert set(replay.storage._storage.keys(True, True)) == set(KEYS)
    assert replay.storage._storage["pixels"].nbytes == 10 * 64 * 64 * 3
    for sample, shape in ((replay.sample(), [2, 5]), (contexts.sample(), [3, 4])):
        assert sample.shape == torch.Size(shape)
        assert set(sample.keys(True, True)) == {*KEYS, "index"}
        assert sample["pixels"].shape == torch.Size([*shape, 64, 64, 3])
        assert sample["pixels"].dtype == torch.uint8
        assert sample["action"].dtype == torch.int64
        assert_consecutive(sample)
        for key in KEYS:
            assert (sample[key] == batch[key][times(sample)]).all(), key


@pytest.mark.parametrize("shape", [(64, 64, 3), (8, 12, 3), (5, 6, 3), (7, 5, 3), (64, 64, 1), (7, 5, 1)])
def test_images_come_back_as_they_went_in(shape: tuple[int, ...]) -> None:
    replay, _ = make_replay(6)
    batch = records(6, shape=shape)
    replay.extend(batch)
    assert torch.equal(replay[:]["pixels"], batch["pixels"])


@pytest.mark.parametrize("written", [40, 100, 131, 270])
def test_every_window_is_equally_likely_and_none_crosses_the_seam(written: int) -> None:
    torch.manual_seed(0)
    capacity, length = 100, 10
    replay, _ = make_replay(capacity, sequences=(20_000, length))
    for start in range(0, written, 7):
        replay.extend(records(min(7, written - start), start))
    batch = replay.sample()
    assert_consecutive(batch)
    held = min(written, capacity)
    counts = torch.bincount(times(batch)[:, 0] - (written - held), minlength=held - length + 1)
    assert len(counts) == held - length + 1, "windows start anywhere from the oldest record to the last full window"
    expected = 20_000 / len(counts)
    freedom = len(counts) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5, "chi-square has mean f and variance 2 f"


def several(number: int, start: int = 0) -> TensorDict:
    """Records [3 number] of three environments; the reward is the number in time plus 1000 times the environment's."""
    batch = torch.stack([records(number, start) for _ in range(NUM_ENVS)])
    batch["next", "reward"] += 1000 * torch.arange(NUM_ENVS)[:, None, None]
    return batch


@pytest.mark.parametrize("written", [20, 33, 90])
def test_windows_of_each_environment_are_equally_likely(written: int) -> None:
    """Of three environments, in a ring with room for 33 steps of each."""
    torch.manual_seed(0)
    replay, _ = make_replay(101, sequences=(20_000, 10), num_envs=NUM_ENVS)
    for start in range(0, written, 7):
        replay.extend(several(min(7, written - start), start))
    batch = replay.sample()
    assert_consecutive(batch)
    held = min(written, 33)
    assert len(replay) == held * NUM_ENVS
    first = times(batch)[:, 0]
    starts = first % 1000 - (written - held)
    counts = torch.bincount(first // 1000 * (held - 9) + starts, minlength=NUM_ENVS * (held - 9))
    assert starts.min() == 0
    assert starts.max() == held - 10
    assert len(counts) == NUM_ENVS * (held - 9)
    expected, freedom = 20_000 / len(counts), len(counts) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_newest_windows_of_several_environments() -> None:
    replay, _ = make_replay(99, sequences=(500, 10), newest=4, num_envs=NUM_ENVS)
    replay.extend(several(20))
    replay.extend(several(30, 20))
    batch = replay.sample()
    assert_consecutive(batch)
    last = times(batch)[:, -1]
    newest = torch.tensor([49, 1049, 2048, 2049])
    assert torch.equal(last[torch.isin(last, newest)].sort().values, newest), (
        "the last step's, and one of the step before"
    )


def test_newest_records_of_several_environments_are_the_first_ones() -> None:
    replay, _ = make_replay(31, sequences=(2, 3), num_envs=NUM_ENVS)
    replay.extend(several(7))
    replay.extend(several(7, 7))
    assert newest_records(replay, 6)["next", "reward"].flatten().tolist() == [8, 9, 10, 11, 12, 13]
    with pytest.raises(ValueError, match="holds 10 records, 11 were asked for"):
        newest_records(replay, 11)


def test_too_few_records_of_several_environments_are_refused() -> None:
    replay, _ = make_replay(99, sequences=(4, 10), num_envs=NUM_ENVS)
    replay.extend(several(9))
    with pytest.raises(ValueError, match=r"holds 27 records .* wants 28"):
        replay.sample()
    replay.extend(several(1, 9))
    assert replay.sample().shape == torch.Size([4, 10])


@pytest.mark.parametrize("num_envs", [0, 5])
def test_a_ring_without_room_for_a_step_is_refused(num_envs: int) -> None:
    with pytest.raises(UsageError, match=f"num_envs={num_envs} with capacity=4"):
        make_replay(4, num_envs=num_envs)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (3, 1, 2)])
def test_records_of_another_number_of_environments_are_refused(shape: tuple[int, ...]) -> None:
    replay, _ = make_replay(99, num_envs=NUM_ENVS)
    with pytest.raises(ValueError, match=r"extend it with records \[3 t\] and pixels \[3 t h w 3\] uint8"):
        replay.extend(records(6).reshape(shape))


@pytest.mark.parametrize("written", [60, 130])
def test_newest_windows_are_in_every_batch(written: int) -> None:
    replay, _ = make_replay(100, sequences=(500, 10), newest=5)
    replay.extend(records(min(written, 70)))
    if written > 70:
        replay.extend(records(written - 70, 70))
    first = times(replay.sample())[:, 0]
    newest = torch.arange(written - 14, written - 9)
    assert torch.equal(first[torch.isin(first, newest)].sort().values, newest), "each of them once, the rest older"
    assert first.min() == max(0, written - 100)
    assert first.max() == written - 10


@pytest.mark.parametrize("num_envs", [1, NUM_ENVS])
@pytest.mark.parametrize("way", ["state_dict", "dumps"])
def test_a_restored_ring_keeps_its_seam(way: str, num_envs: int, tmp_path: Path) -> None:
    make_records = records if num_envs == 1 else several
    replay, _ = make_replay(50 * num_envs, sequences=(500, 10), num_envs=num_envs)
    replay.extend(make_records(40))
    replay.extend(make_records(30, 40))
    restored, contexts = make_replay(50 * num_envs, sequences=(500, 10), contexts=(500, 4), num_envs=num_envs)
    if way == "dumps":
        replay.dumps(tmp_path)
        restored.loads(tmp_path)
    else:
        restored.load_state_dict(replay.state_dict())
    for batch in (restored.sample(), contexts.sample()):
        assert_consecutive(batch)
        assert (times(batch) % 1000).min() == 20
        assert (times(batch) % 1000).max() == 69
    restored.extend(make_records(5, 70))
    assert_consecutive(restored.sample())
    assert (times(contexts.sample()) % 1000).max() == 74


def test_the_second_view_sees_what_the_first_writes_and_cannot_write() -> None:
    replay, contexts = make_replay(20, contexts=(4, 3))
    replay.extend(records(10))
    assert contexts.storage is replay.storage
    with pytest.raises(RuntimeError, match="doesn't allow writing"):
        contexts.extend(records(10))
    assert len(contexts) == 10


def test_too_few_records_are_refused() -> None:
    replay, contexts = make_replay(100, sequences=(2, 10), contexts=(2, 5), newest=2)
    for view in (replay, contexts):
        with pytest.raises(ValueError, match=r"the replay holds 0 records \(capacity 100\), sampling wants"):
            view.sample()
    replay.extend(records(11))
    with pytest.raises(ValueError, match=r"holds 11 records .* wants 12"):
        replay.sample()
    assert contexts.sample().shape == torch.Size([2, 5])
    replay.extend(records(1, 11))
    assert replay.sample().shape == torch.Size([2, 10])


def test_a_batch_smaller_than_newest_is_refused() -> None:
    replay, _ = make_replay(100, sequences=(4, 10), newest=5)
    replay.extend(records(50))
    with pytest.raises(ValueError, match="a batch of 4 windows cannot hold the 5 newest"):
        replay.sample()


@pytest.mark.parametrize("spoil", ["dtype", "channels", "batch"])
def test_records_of_another_kind_are_refused(spoil: str) -> None:
    replay, _ = make_replay(100)
    batch = records(4)
    if spoil == "dtype":
        batch["pixels"] = batch["pixels"].float()
    elif spoil == "channels":
        batch["pixels"] = batch["pixels"].permute(0, 3, 1, 2)
    else:
        batch = batch.reshape(2, 2)
    with pytest.raises(ValueError, match=r"extend it with records \[t\]"):
        replay.extend(batch)


def test_newest_records_are_in_order_after_the_ring_wrapped():
    replay, _ = make_replay(10, sequences=(2, 3), contexts=(2, 2))
    replay.extend(records(7))
    replay.extend(records(7, start=7))
    assert newest_records(replay, 6)["next", "reward"].flatten().tolist() == [8, 9, 10, 11, 12, 13]
    with pytest.raises(ValueError, match="holds 10 records, 11 were asked for"):
        newest_records(replay, 11)


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("newest", [0, 2])
def test_rewarded_windows_hold_a_reward(num_envs: int, newest: int) -> None:
    """Also where the ring has wrapped, and at its ends."""
    replay, _ = make_replay(200 * num_envs, sequences=(newest + 3, 10), newest=newest, rewarded=2, num_envs=num_envs)
    rewards = {**dict.fromkeys(range(50, 350, 30), -1.0), 103: 0.5, 149: 1.0, 349: -2.0}
    for start in (0, 150):  # 150 to 349 stay, and 150 is the oldest
        batch = records(200, start=start)
        batch["action"][:, 0] = torch.arange(start, start + 200)
        reward = torch.tensor([rewards.get(time, 0.0) for time in range(start, start + 200)])
        batch["next", "reward"] = reward[:, None]
        replay.extend(batch if num_envs == 1 else torch.stack([batch, batch]))
    for _ in range(200):
        sample = replay.sample()
        assert (sample["action"][..., 0].diff(dim=1) == 1).all(), "one environment's, and not across the seam"
        held = sample["next", "reward"].squeeze(-1)[newest : newest + 2]
        assert (held != 0).any(1).all()
        assert not (held > 0).any(), "149 is overwritten"


def test_rare_gains_are_drawn_as_often_as_losses() -> None:
    replay, _ = make_replay(200, sequences=(4, 5), rewarded=4)
    batch = records(200)
    batch["next", "reward"] = torch.full((200, 1), -1.0) * (torch.arange(200) % 9 == 0)[:, None]
    batch["next", "reward"][100] = 1.0
    replay.extend(batch)
    drawn = torch.cat([(replay.sample()["next", "reward"] > 0).any(1) for _ in range(100)])
    assert 0.4 < drawn.float().mean() < 0.65


def test_without_rewards_all_windows_are_uniform() -> None:
    replay, _ = make_replay(50, sequences=(400, 5), rewarded=400)
    batch = records(50)
    batch["action"][:, 0] = torch.arange(50)
    batch["next", "reward"].zero_()
    replay.extend(batch)
    firsts = replay.sample()["action"][:, 0, 0]
    assert set(firsts.tolist()) == set(range(46))
