"""Several environments as one: ale-py's vector environment against single ones, and any others in series."""

from __future__ import annotations

import inspect
from functools import partial

import gymnasium
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.data import OneHot
from torchrl.envs import TransformedEnv, check_env_specs

from torchrl_glam.envs import PROTOCOLS, ale_vector, make_atari_env
from torchrl_glam.envs.atari import EvaluationProtocol
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor

BREAKOUT, CATCH_BALL = "ALE/Breakout-v5", "tests.support.games:CatchBall-v0"


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a protocol without chance."""
    monkeypatch.setitem(PROTOCOLS, "still", EvaluationProtocol(0.0, 0, 1))
    return "still"


def play(env: TransformedEnv, num_steps: int = 30) -> Tensor:
    """The images of the next steps [n t 64 64 3], by a fixed cycle of actions."""
    tensordict, images = env.reset(), []
    for step in range(num_steps):
        tensordict["action"] = torch.eye(4, dtype=torch.int64)[step * 5 // 3 % 4].expand(*env.batch_size, 4)
        tensordict = env.step(tensordict)["next"]
        images.append(tensordict["pixels"])
    return torch.stack(images, -4)


def same_images(left: Tensor, right: Tensor) -> list[bool]:
    return [torch.equal(*pair) for pair in zip(left, right, strict=True)]


@pytest.mark.parametrize(("game", "frame_skip", "num_steps"), [("Breakout", None, 250), ("MsPacman", 3, 60)])
def test_without_chance_each_game_equals_the_single_environment(
    still: str, game: str, frame_skip: int | None, num_steps: int
) -> None:
    """Every entry of every step, terminal frames and first frames included, bit for bit."""
    single, games = (
        make_atari_env(f"ALE/{game}-v5", protocol=still, frame_skip=frame_skip, num_envs=number) for number in (1, 2)
    )
    generator = torch.Generator().manual_seed(0)
    alone, together = single.reset(), games.reset()
    number, ends = single.action_spec.shape[-1], 0
    for _ in range(num_steps):
        action = torch.eye(number, dtype=torch.int64)[torch.randint(number, (), generator=generator)]
        stepped, alone = single.step_and_maybe_reset(alone.set("action", action))
        both, together = games.step_and_maybe_reset(together.set("action", action.expand(2, number)))
        for expected, found in ((stepped["next"], both["next"]), (alone, together)):
            assert set(found.keys()) == set(expected.keys())
            for key, value in expected.items():
                assert found[key].dtype == value.dtype, key
                assert torch.equal(found[key], torch.stack([value, value])), key
        ends += int(stepped["next", "done"])
    assert ends == (1 if game == "Breakout" else 0)


@pytest.mark.parametrize("name", [BREAKOUT, CATCH_BALL])
def test_specs_hold_and_keys_are_those_of_one_environment(name: str) -> None:
    games, single = make_atari_env(name, num_envs=3), make_atari_env(name)
    check_env_specs(games)
    assert games.batch_size == (3,)
    assert isinstance(games.action_spec_unbatched, OneHot)
    assert games.action_spec_unbatched.shape == single.action_spec.shape
    step, expected = games.rollout(2)[:, -1]["next"], single.rollout(2)[-1]["next"]
    assert {key: (value.shape[1:], value.dtype) for key, value in step.items()} == {
        key: (value.shape, value.dtype) for key, value in expected.items()
    }
    games.close()


@pytest.mark.parametrize("protocol", ["glam", "standard"])
def test_seeds_differ_between_games_and_repeat_between_runs(protocol: str) -> None:
    def run(seed: int | None) -> list[Tensor]:
        env = make_atari_env(BREAKOUT, protocol=protocol, seed=seed, num_envs=2)
        return [play(env, 15) for _ in range(2)]

    first, again, neighbour, unseeded = run(1), run(1), run(2), run(None)
    for episode, repeated in zip(first, again, strict=True):
        assert all(same_images(episode, repeated))
    different = {images.numpy().tobytes() for run in (first, neighbour, unseeded) for images in torch.cat(run)}
    assert len(different) > (8 if protocol == "glam" else 2), "only the no-ops can differ with the standard protocol"


def test_games_differ_without_a_seed() -> None:
    images = play(make_atari_env(BREAKOUT, num_envs=4))
    assert len({game.numpy().tobytes() for game in images}) > 2


def test_the_games_of_neighbouring_seeds_are_others() -> None:
    seeds = [number for seed in range(100) for number in ale_vector.game_seeds(seed, 8).tolist()]
    assert len(set(seeds)) == 800
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


def test_games_in_series_have_different_seeds() -> None:
    first, again = (make_atari_env(CATCH_BALL, seed=5, num_envs=3).reset()["pixels"] for _ in range(2))
    assert all(same_images(first, again))
    assert len({images.numpy().tobytes() for images in first}) > 1


def test_the_standard_protocol_starts_with_up_to_30_no_ops() -> None:
    env = make_atari_env(BREAKOUT, protocol="standard", seed=0, num_envs=8)
    frames: list[int] = []
    for _ in range(25):
        _, info = env.base_env._env.reset()
        frames += info["episode_frame_number"].tolist()
    assert (min(frames), max(frames)) == (0, 30), "ale-py draws 0 as well, Gymnasium does not"


def test_the_glam_protocol_has_sticky_actions_and_no_no_ops() -> None:
    env = make_atari_env(BREAKOUT, seed=0, num_envs=4)
    _, info = env.base_env._env.reset()
    assert not info["episode_frame_number"].any()
    images = play(env)
    assert not all(same_images(images[:1].expand_as(images), images)), "the same actions, other frames"


def test_rewards_are_not_clipped_and_lost_lives_reset_nothing() -> None:
    torch.manual_seed(0)
    assert make_atari_env("ALE/MsPacman-v5", seed=0, num_envs=2).rollout(90)["next", "reward"].max() >= 10
    records = make_atari_env(BREAKOUT, seed=0, num_envs=3).rollout(150, break_when_any_done=False)
    lost = (records["next", "lives"] < records["lives"]).unsqueeze(-1)
    assert lost.any()
    assert torch.equal(records["next", "life_loss"], lost)
    assert not records["next", "done"][lost & (records["next", "lives"] > 0).unsqueeze(-1)].any()


def test_episodes_are_truncated_at_the_length_of_the_single_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = inspect.signature(AtariVectorEnv).parameters["max_num_frames_per_episode"].default
    assert longest == gymnasium.spec(BREAKOUT).kwargs["max_num_frames_per_episode"]
    monkeypatch.setattr(ale_vector, "AtariVectorEnv", partial(AtariVectorEnv, max_num_frames_per_episode=20))
    records = make_atari_env(BREAKOUT, num_envs=2).rollout(12, break_when_any_done=False)
    after = records["next"].squeeze(-1)
    assert after["truncated"][:, :, 0].nonzero()[:, 1].tolist() == [4, 9] * 2
    assert torch.equal(after["done"], after["truncated"])
    assert not after["terminated"].any()
    assert not after["life_loss"].any()
    assert records["step_count"][0, :, 0].tolist() == [0, 1, 2, 3, 4] * 2 + [0, 1]


def test_a_reset_of_some_games_leaves_the_others() -> None:
    env = make_atari_env(BREAKOUT, seed=0, num_envs=3)
    last = env.rollout(20)[:, -1]["next"]
    chosen = torch.tensor([[False], [True], [False]])
    after = env.reset(last.clone().set("_reset", chosen))
    assert after["step_count"].flatten().tolist() == [20, 0, 20]
    assert same_images(after["pixels"], last["pixels"]) == [True, False, True]


def collected(num_steps: int) -> TensorDictBase:
    """Records [3 t] of a policy with a context of 4 steps in Breakout, whose episodes end at different times."""
    torch.manual_seed(0)
    env = make_atari_env(BREAKOUT, seed=0, num_envs=3, image_size=8)
    spec = env.action_spec_unbatched
    sizes = {"image_shape": (8, 8, 3), "channels": (4, 6), "num_categoricals": 3, "num_classes": 4}
    world_model = GLAMWorldModel(4, GLAMDynamics(8, d_state=3), **sizes).eval()
    actor = make_actor(world_model.state_size, 8, spec, hidden=8, num_layers=1)
    policy = GLAMPolicy(world_model, actor, spec, context_length=4)
    options = {"frames_per_batch": 3, "total_frames": 3 * num_steps, "auto_register_policy_transforms": True}
    collector = Collector(env, policy, **options)
    batches = list(collector)
    collector.shutdown()
    assert {batch.shape for batch in batches} == {(3, 1)}
    return torch.cat(batches, 1)


def test_a_collector_joins_episodes_right_and_clears_the_context_of_the_one_that_ended() -> None:
    records = collected(250)
    ends = records["next", "done"].squeeze(-1)
    times = ends.nonzero()[:, 1]
    assert len(times) == len(times.unique()) >= 3, "each ends alone"
    first = TensorDict({"pixels": records["pixels"][:, 0], "lives": records["lives"][:, 0]}, [3])
    for game, time in (ends[:, :-1] | True).nonzero().tolist():
        before, after = records[game, time], records[game, time + 1]
        ended = bool(ends[game, time])
        assert after["is_init"].item() == ended
        assert after["context", "length"].item() == (0 if ended else min(before["context", "length"].item() + 1, 4))
        assert after["context", "state"].any().item() != ended
        assert after["step_count"].item() == (0 if ended else before["next", "step_count"].item())
        expected = first[game] if ended else before["next"]
        assert torch.equal(after["pixels"], expected["pixels"])
        assert torch.equal(after["lives"], expected["lives"])
        if ended:
            assert before["next", "lives"] == 0, "the last lives are not the next episode's"
            assert not torch.equal(before["next", "pixels"], after["pixels"])
