"""Every record that comes out of the replay says what the game did: env -> collector -> replay -> batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from tensordict import TensorDictBase

from tests.support.games import CountingGame
from torchrl_glam.data.replay import make_replay
from torchrl_glam.envs.atari import make_atari_env

with warnings.catch_warnings():  # torchrl 0.14.1 warns of its own deprecated classes when imported
    warnings.simplefilter("ignore", DeprecationWarning)
    from torchrl.collectors import Collector

FRAMES = 140  # of the agent: 16 episodes
NUM_ENVS = 3
GAMES = {"tests.support.games:CountingGame-v0": False, "tests.support.games:CountingGameTruncated-v0": True}


def collect(name: str, frames_per_batch: int, num_envs: int = 1) -> Iterator[TensorDictBase]:
    """Random play of ``FRAMES`` by each environment, in batches of ``frames_per_batch`` of each."""
    torch.manual_seed(0)
    env = make_atari_env(name, seed=0, frame_skip=4, num_envs=num_envs)
    frames = {"frames_per_batch": frames_per_batch * num_envs, "total_frames": FRAMES * num_envs}
    collector = Collector(env, None, **frames)
    yield from collector
    collector.shutdown()


def check_records(records: TensorDictBase, truncate: bool) -> None:
    """Checks consecutive records [t] against the game's rules, from their images alone."""
    expected = None
    for record in records.unbind(0):
        seen = CountingGame.read(record["pixels"].numpy())
        frame, episode, action = seen[0][-1], seen[1][-1], int(record["action"].argmax())
        assert record["action"].sum() == 1
        assert seen[0] == ([frame - 1, frame] if frame else [0]), "the maximum of the last two frames"
        assert expected in (None, seen), "one record leads to the next, and an episode to the next one's first frame"

        length = CountingGame.LENGTHS[episode % len(CountingGame.LENGTHS)]
        played = range(frame + 1, min(frame + 4, length) + 1)
        end = played[-1] == length
        lost = any(loss in played for loss in CountingGame.LIFE_LOSSES)
        after = record["next"]
        assert after["reward"].item() == sum(CountingGame.reward(number, action) for number in played)
        assert after["done"].item() == end
        assert after["terminated"].item() == (end and not truncate)
        assert after["life_loss"].item() == (lost or (end and not truncate))
        expected = [[0], [episode + 1], []] if end else [[frame + 3, frame + 4], [episode], [action]]


@pytest.mark.parametrize("frames_per_batch", [1, 7])
@pytest.mark.parametrize(("name", "truncate"), GAMES.items())
def test_sampled_windows_tell_what_the_game_did(name: str, truncate: bool, frames_per_batch: int) -> None:
    replay, contexts = make_replay(FRAMES, sequences=(16, 20), contexts=(32, 5))
    for batch in collect(name, frames_per_batch):
        replay.extend(batch)
    stored = replay[:]
    assert len(stored) == FRAMES
    assert CountingGame.read(stored["pixels"][0].numpy()) == [[0], [stored_first_episode(stored)], []]
    check_records(stored, truncate)
    for window in [*replay.sample().unbind(0), *contexts.sample().unbind(0)]:
        check_records(window, truncate)


@pytest.mark.parametrize("frames_per_batch", [1, 7])
@pytest.mark.parametrize(("name", "truncate"), GAMES.items())
def test_windows_stay_right_when_the_ring_has_wrapped(name: str, truncate: bool, frames_per_batch: int) -> None:
    replay, contexts = make_replay(50, sequences=(3, 20), contexts=(4, 5))
    for batch in collect(name, frames_per_batch):
        replay.extend(batch)
        if len(replay) > 20:
            for window in [*replay.sample().unbind(0), *contexts.sample().unbind(0)]:
                check_records(window, truncate)
    assert len(replay) == 50


@pytest.mark.parametrize("capacity", [FRAMES * NUM_ENVS, 50 * NUM_ENVS + 1])
@pytest.mark.parametrize("frames_per_batch", [1, 7])
@pytest.mark.parametrize(("name", "truncate"), GAMES.items())
def test_windows_of_several_environments_never_mix_them(
    name: str, truncate: bool, frames_per_batch: int, capacity: int
) -> None:
    replay, contexts = make_replay(capacity, sequences=(16, 20), contexts=(32, 5), num_envs=NUM_ENVS)
    for batch in collect(name, frames_per_batch, NUM_ENVS):
        assert batch.shape == (NUM_ENVS, frames_per_batch)
        replay.extend(batch)
    assert len(replay) == capacity // NUM_ENVS * NUM_ENVS
    if capacity == FRAMES * NUM_ENVS:
        for game in range(NUM_ENVS):
            check_records(replay[game::NUM_ENVS], truncate)
    assert len({stored_first_episode(replay[game : game + 1]) for game in range(NUM_ENVS)}) == NUM_ENVS, (
        "or mixing them"
    )
    for window in [*replay.sample().unbind(0), *contexts.sample().unbind(0)]:
        check_records(window, truncate)


@pytest.mark.parametrize("name", GAMES)
def test_returns_and_step_counts_belong_to_episodes(name: str) -> None:
    total, steps, ends = 0.0, 0, 0
    for record in (record for batch in collect(name, 7) for record in batch.unbind(0)):
        assert record["is_init"].item() == (steps == 0)
        assert record["step_count"].item() == steps
        assert record["episode_reward"].item() == total
        total, steps = total + record["next", "reward"].item(), steps + 1
        assert record["next", "episode_reward"].item() == total
        if record["next", "done"].item():
            total, steps, ends = 0.0, 0, ends + 1
    assert ends == 16


def stored_first_episode(records: TensorDictBase) -> int:
    """The number of the episode that the records begin with."""
    return CountingGame.read(records["pixels"][0].numpy())[1][0]
