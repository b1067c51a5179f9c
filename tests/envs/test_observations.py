"""What is observed of environments that give vectors, whole numbers, dictionaries, grey and oblong images."""

from __future__ import annotations

from typing import Any

import cv2
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, MultiOneHot, NonTensor, OneHot, Unbounded
from torchrl.envs import EnvBase, check_env_specs

from tests.support.sensors import Arm
from torchrl_glam.envs import adapt_env, describe_observation, make_atari_env
from torchrl_glam.envs.gymnasium import has_image, observes_vectors
from torchrl_glam.envs.observations import choose_entries, notice
from torchrl_glam.errors import UsageError

ARM, GRID, LEVERS = (f"tests.support.sensors:{name}-v0" for name in ("Arm", "Grid", "Levers"))


@pytest.mark.parametrize(
    ("name", "observed"),
    [
        ("CartPole-v1", "a vector of 4"),
        ("Pendulum-v1", "a vector of 3"),
        ("Acrobot-v1", "a vector of 6"),
        ("FrozenLake-v1", "a vector of 16"),
        ("Blackjack-v1", "a vector of 45"),
        (ARM, "pixels 64x64x3 and a vector of 7"),
        (GRID, "a vector of 151"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_names(name: str, observed: str, num_envs: int) -> None:
    env = make_atari_env(name, seed=0, num_envs=num_envs)
    check_env_specs(env)
    assert describe_observation(env) == f"observes {observed}"
    records = env.rollout(3, break_when_any_done=False, break_when_all_done=num_envs > 1)
    assert records["observation"].dtype == torch.float32
    assert set(records.keys()) - {"pixels", "lives"} == {
        *("observation", "action", "life_loss", "episode_reward", "step_count", "is_init", "next"),
        *("done", "terminated", "truncated"),
    }


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "InvertedPendulum-v5"])
def test_doubles_become_floats_also_where_some_of_several_step(name: str) -> None:
    pytest.importorskip("mujoco")
    env = make_atari_env(name, seed=0, num_envs=2)
    records = env.rollout(60, break_when_any_done=False, break_when_all_done=True)
    assert records["next", "observation"].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "pixels", "vector"),
    [
        ({}, (64, 64, 3), 7),
        ({"observation": "mixed", "image_size": None}, (48, 80, 3), 7),
        ({"observation": "pixels", "color": "grey"}, (64, 64, 1), None),
        ({"observation": "pixels", "image_size": 20, "color": "native"}, (20, 20, 3), None),
        ({"observation": "state"}, None, 7),
    ],
)
def test_a_camera_and_joints(options: dict[str, Any], pixels: tuple[int, ...] | None, vector: int | None) -> None:
    env = make_atari_env(ARM, seed=0, **options)
    check_env_specs(env)
    arm: Arm = env.base_env._env.unwrapped
    records = env.rollout(3)
    expected = arm.observe()
    if pixels is None:
        assert "pixels" not in records["next"]
    else:
        camera = expected["camera"]
        if pixels[-1] == 1:
            camera = cv2.cvtColor(camera, cv2.COLOR_RGB2GRAY)
        if pixels[:2] != (48, 80):
            camera = cv2.resize(camera, pixels[1::-1], interpolation=cv2.INTER_AREA)
        assert (records["next", "pixels"][-1].numpy() == camera.reshape(pixels)).all()
    if vector is None:
        assert "observation" not in records["next"]
    else:
        assert (records["next", "observation"][-1].numpy() == expected["joints"]).all()
    assert not {"camera", "joints"} & set(records.keys())


def test_a_grid_of_symbols_is_a_vector_unless_it_is_named(caplog: pytest.LogCaptureFixture) -> None:
    notice.cache_clear()
    env = make_atari_env(GRID, seed=0)
    records = env.rollout(3)
    place = int(env.base_env._env.unwrapped.place)
    direction = torch.nn.functional.one_hot(torch.tensor(place % 4), 4)
    assert records["next", "observation"][-1].tolist() == [*direction.tolist(), *[place] * 147], "sorted by key"
    assert caplog.messages == ["Grid-v0: mission is a text, which is left out of what is observed"]
    assert describe_observation(make_atari_env(GRID, pixels_key="image")) == "observes pixels 64x64x3 and a vector of 4"


@pytest.mark.parametrize("observation", ["pixels", "mixed"])
def test_what_is_not_observed_is_rendered(observation: str) -> None:
    pytest.importorskip("pygame")
    env = make_atari_env("CartPole-v1", seed=0, observation=observation, image_size=32)
    check_env_specs(env)
    records = env.rollout(3)
    assert records["pixels"].shape == (3, 32, 32, 3)
    assert ("observation" in records) == (observation == "mixed")


def test_a_cut_is_no_termination_and_no_loss_of_a_life() -> None:
    records = make_atari_env(ARM, seed=0).rollout(30, break_when_any_done=False)["next"]
    assert records["truncated"].flatten().nonzero().flatten().tolist() == [24]
    assert not records["terminated"].any()
    assert not records["life_loss"].any()
    assert torch.equal(records["done"], records["truncated"])


def test_levers_are_moved_at_once_from_their_starts() -> None:
    env = make_atari_env(LEVERS, seed=0, num_envs=2)
    check_env_specs(env)
    assert isinstance(env.action_spec_unbatched, MultiOneHot)
    records = env.rollout(20)
    assert records["action"].shape == (2, 20, 5)
    assert (records["action"].sum(-1) == 2).all()
    single = make_atari_env(LEVERS, seed=0)
    tensordict, before = single.reset(), single.base_env._env.unwrapped.place
    single.step(tensordict.set("action", torch.tensor([0, 0, 1, 1, 0])))
    assert single.base_env._env.unwrapped.place - before in (2, 2 - 40), "3 forth, 1 back"


class Fixed(gymnasium.Env):
    """Observes one value for good."""

    action_space = Discrete(2)

    def __init__(self, space: gymnasium.Space, value: Any, skipped: Any = None, reward: Any = 1.0) -> None:
        self.observation_space, self.value, self.skipped, self.steps = space, value, skipped, 0
        self.reward = reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.value, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.value if self.steps < 2 or self.skipped is None else self.skipped, self.reward, False, False, {}


def make_fixed(space: gymnasium.Space, value: Any, skipped: Any = None, reward: Any = 1.0, **options: Any) -> EnvBase:
    """Make ``Fixed`` by name."""
    kwargs = {"space": space, "value": value, "skipped": skipped, "reward": reward}
    gymnasium.register("Fixed-v0", entry_point=Fixed, disable_env_checker=True, kwargs=kwargs)
    try:
        return make_atari_env("Fixed-v0", **options)
    finally:
        del gymnasium.registry["Fixed-v0"]


@pytest.mark.parametrize(
    ("space", "value", "vector"),
    [
        (Discrete(3, start=-1), np.int64(0), [0, 1, 0]),
        (MultiDiscrete([2, 3], start=[0, 5]), np.array([1, 6]), [0, 1, 0, 1, 0]),
        (MultiDiscrete([[2], [3]]), np.array([[1], [0]]), [0, 1, 1, 0, 0]),
        (MultiBinary([2, 2]), np.array([[1, 0], [0, 1]], np.int8), [1, 0, 0, 1]),
        (Box(0, 1, (2,), np.bool_), np.array([True, False]), [1, 0]),
        (Box(0, 9, (2,), np.int32), np.array([3, 4], np.int32), [3, 4]),
        (Box(0, 9, (2,), np.uint16), np.array([3, 4], np.uint16), [3, 4]),
        (Box(0, 9, (2,), np.uint64), np.array([3, 4], np.uint64), [3, 4]),
        (MultiDiscrete([2, 2]), np.array([1, 0]), [0, 1, 1, 0]),
        (Box(-np.inf, np.inf, (), np.float64), np.float64(0.5), [0.5]),
        (Box(-np.inf, np.inf, (2, 2)), np.array([[1, 2], [3, 4]], np.float32), [1, 2, 3, 4]),
        (Box(-np.inf, np.inf, (20, 20)), np.ones((20, 20), np.float32), [1] * 400),
        (Box(0, 255, (2, 2, 3), np.uint8), np.full((2, 2, 3), 7, np.uint8), [7] * 12),
        (Tuple((Discrete(2), Box(0, 1, (1,)))), (1, np.array([0.25], np.float32)), [0, 1, 0.25]),
        (Tuple([Discrete(2)] * 11), (1, *[0] * 10), [0, 1] + [1, 0] * 10),
        (
            Dict(b=Dict(z=Discrete(2), a=Box(0, 1, (1,))), a=Box(0, 9, (1,)), state=Box(0, 9, (1,))),
            {"b": {"z": 0, "a": np.ones(1, np.float32)}, "a": np.zeros(1, np.float32), "state": np.ones(1, np.float32)},
            [0, 1, 1, 0, 1],
        ),
        (
            Dict(action=Box(0, 9, (1,)), done=Box(0, 9, (1,)), lives=Discrete(2), reward=Box(0, 9, (1,))),
            {"action": np.ones(1), "done": np.full(1, 2.0), "lives": 1, "reward": np.full(1, 3.0)},
            [1, 2, 0, 1, 3],
        ),
        (
            Dict(observation=Dict(a=Box(0, 9, (1,)), observation=Box(0, 9, (1,))), b=Box(0, 9, (1,))),
            {"observation": {"a": np.full(1, 2.0), "observation": np.full(1, 3.0)}, "b": np.ones(1)},
            [1, 2, 3],
        ),
        (Dict(a=Box(0, 9, (1,)), b=Box(0, 9, (0,))), {"a": np.ones(1), "b": np.ones(0)}, [1]),
    ],
    ids=str,
)
def test_any_numbers_become_a_vector(space: gymnasium.Space, value: Any, vector: list[float]) -> None:
    env = make_fixed(space, value)
    check_env_specs(env)
    assert describe_observation(env) == f"observes a vector of {len(vector)}"
    assert env.reset()["observation"].tolist() == vector


def test_frames_are_skipped_of_vectors_too() -> None:
    env = make_fixed(Box(-9, 9, (1,)), np.array([5], np.float32), skipped=np.array([-5], np.float32), frame_skip=2)
    records = env.rollout(1)["next"]
    assert records["observation"].tolist() == [[-5]], "the last one, not the maximum"
    assert records["reward"].tolist() == [[2]]


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_is_said_where_it_comes(number: float, num_envs: int) -> None:
    env = make_fixed(Box(-np.inf, np.inf, (2,)), np.zeros(2), skipped=np.array([0, number]), num_envs=num_envs)
    tensordict = env.rand_step(env.reset())["next"]
    with pytest.raises(UsageError, match=f"'observation' has {number} at place 1, and finite") as caught:
        env.rand_step(tensordict)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("space", "value", "wrong", "message"),
    [
        (Box(-1, 1, (2,)), np.zeros(2), np.zeros(3), r"observes an array of shape \[3\], and its space is Box"),
        (
            Box(0, 255, (20, 30, 3), np.uint8),
            np.zeros((20, 30, 3)),
            np.zeros((20, 30)),
            r"observes an array of shape \[20, 30\]",
        ),
        (Box(-1, 1, (2,)), np.zeros(2), "x", "observes a str, and its space is Box"),
        (Discrete(3, start=2), 2, 1, r"observes 1, and its space is Discrete\(3, start=2\)"),
        (
            MultiDiscrete([2, 3]),
            np.array([1, 2]),
            np.array([2, 1]),
            r"observes \[2 1\], and its space is MultiDiscrete",
        ),
        (Dict(a=Dict(b=Discrete(2))), {"a": {"b": 0}}, {"a": {"c": 0}}, "observes no a.b, which its observation_space"),
        (Dict(a=Dict(b=Discrete(2))), {"a": {"b": 0}}, {"a": {"b": 5}}, "observes 5 as a.b, and its space is"),
        (Tuple((Discrete(2), Discrete(2))), (0, 0), (0,), "observes no 1, which its observation_space has"),
    ],
    ids=["numbers", "pixels", "text", "Discrete", "MultiDiscrete", "key", "entry", "Tuple"],
)
def test_what_is_not_of_its_space_is_said_where_it_comes(
    space: gymnasium.Space, value: Any, wrong: Any, message: str, num_envs: int
) -> None:
    env = make_fixed(space, value, skipped=wrong, num_envs=num_envs)
    tensordict = env.reset()
    with pytest.raises(UsageError, match=f"'Fixed-v0' {message}.* mend the environment's reset and step") as caught:
        env.rollout(2, auto_reset=False, tensordict=tensordict)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reward", [np.nan, -np.inf, None, np.zeros(2)])
def test_a_reward_is_one_finite_number(reward: Any) -> None:
    env = make_fixed(Box(-1, 1, (2,)), np.zeros(2), reward=reward)
    with pytest.raises(UsageError, match=r"'Fixed-v0' gives the reward .*, and one finite number is wanted"):
        env.rollout(1)


FRAMES = np.zeros((20, 30, 3), np.uint8)


def test_an_image_in_a_dict_called_pixels() -> None:
    space = Dict(agent_pos=Box(0, 9, (2,)), pixels=Dict(side=Discrete(2), top=Box(0, 255, (20, 30, 3), np.uint8)))
    env = make_fixed(space, {"agent_pos": np.ones(2), "pixels": {"side": 1, "top": FRAMES + 9}})
    check_env_specs(env)
    assert describe_observation(env) == "observes pixels 64x64x3 and a vector of 4"
    reset = env.reset()
    assert (reset["pixels"] == 9).all()
    assert reset["observation"].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("space", "value", "options", "message"),
    [
        (
            Dict(left=Box(0, 255, (20, 30, 3), np.uint8), right=Box(0, 255, (20, 30, 3), np.uint8)),
            {"left": FRAMES, "right": FRAMES},
            {},
            r"observes 2 images, 'left', 'right', and one .* pixels_key='left' \(on a command line env.pixels_key=left",
        ),
        (Box(0, 255, (84, 84, 4), np.uint8), FRAMES, {}, r"'observation' is torch.uint8 \[84, 84, 4\], no image and"),
        (Box(0, 1, (2,)), FRAMES, {"pixels_key": "camera"}, "observes 'observation' and no 'camera': leave"),
        (Box(0, 255, (20, 30, 3), np.uint8), FRAMES, {"pixels_key": "x"}, "no 'x': give pixels_key='pixels', or leave"),
        (Box(0, 255, (20, 30, 3), np.uint8), FRAMES, {"observation": "state"}, "none of which is a vector of numbers"),
        (Box(0, 255, (20, 30, 3), np.uint8), FRAMES, {"observation": "mixed"}, "none of which is a vector of numbers"),
        (Box(0, 1, (2,)), FRAMES, {"observation": "vector"}, "observation='vector' does not exist: use one of auto"),
        (Box(0, 1, (2,)), FRAMES, {"color": "red"}, "color='red' does not exist: use one of rgb"),
        (Dict(a=Dict(b=Graph(Discrete(2), None))), FRAMES, {}, "'Fixed-v0' observes Graph.* as a.b: choose"),
        (Dict(a=Text(3)), {"a": "x"}, {}, "environment observes nothing, none of which is a vector"),
    ],
    ids=str,
)
def test_what_cannot_be_observed_is_one_line(space: Any, value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_fixed(space, value, **options)
    assert "\n" not in str(caught.value)


def test_the_image_of_several_is_chosen_by_name() -> None:
    space = Dict(a=Dict(left=Box(0, 255, (20, 30, 3), np.uint8)), right=Box(0, 255, (20, 30, 3), np.uint8))
    env = make_fixed(space, {"a": {"left": FRAMES + 9}, "right": FRAMES}, pixels_key="a.left")
    check_env_specs(env)
    assert describe_observation(env) == "observes pixels 64x64x3"
    assert (env.reset()["pixels"] == 9).all()


def test_names_may_have_dots() -> None:
    image = Box(0, 255, (20, 30, 3), np.uint8)
    space = Dict({"a.left": image, "b": Dict({"c.d": image}), "e.f": Box(0, 9, (1,))})
    value = {"a.left": FRAMES + 9, "b": {"c.d": FRAMES + 8}, "e.f": np.ones(1)}
    for name, lightness in {"a.left": 9, "b.c.d": 8}.items():
        env = make_fixed(space, value, pixels_key=name)
        check_env_specs(env)
        assert (env.reset()["pixels"] == lightness).all()


class Numbers(EnvBase):
    """A TorchRL environment with whole numbers, a flag, a text and a nested entry, of any batch size."""

    def __init__(self, batch_size: tuple[int, ...] = (), **changed: torch.Tensor) -> None:
        super().__init__(batch_size=batch_size)
        self.changed = changed
        spec = Composite(
            a=Categorical(3, shape=()),
            b=MultiCategorical([2, 3]),
            c=Categorical(2, shape=(1,), dtype=torch.bool),
            d=Composite(e=Bounded(0, 9, (2, 2), dtype=torch.int32)),
        )
        self.observation_spec = spec.expand(*batch_size)
        self.action_spec = OneHot(2).expand(*batch_size, 2)
        self.reward_spec = Unbounded((*batch_size, 1))

    def _reset(self, tensordict: TensorDict | None = None, **kwargs: Any) -> TensorDict:
        values = {
            "a": torch.tensor(2),
            "b": torch.tensor([1, 0]),
            "c": torch.tensor([True]),
            "d": {"e": torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)},
        }
        return TensorDict(values | self.changed).expand(*self.batch_size).clone()

    def _step(self, tensordict: TensorDict) -> TensorDict:
        flag = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        outcome = {"reward": torch.zeros(*self.batch_size, 1), "done": flag, "terminated": flag.clone()}
        return self._reset().update(outcome)

    def _set_seed(self, seed: int | None) -> None:
        pass


@pytest.mark.parametrize("batch_size", [(), (2,)])
def test_entries_of_a_torchrl_environment_make_one_vector(batch_size: tuple[int, ...]) -> None:
    env = adapt_env(Numbers(batch_size))
    check_env_specs(env)
    vector = env.reset()["observation"]
    assert vector.shape == (*batch_size, 13)
    assert vector.reshape(-1, 13)[0].tolist() == [0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 2, 3, 4]
    assert "d" not in env.observation_spec


@pytest.mark.parametrize("batch_size", [(), (2,)])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"a": torch.tensor(3)}, r"'a' is .*3.*, and its spec says it is from 0 to less than \[3\]: mend"),
        ({"b": torch.tensor([-1, 0])}, r"'b' is .*-1, 0.* less than \[2, 3\]: mend"),
        ({"d": TensorDict(e=torch.ones(3, 2))}, r"\('d', 'e'\) has 6 numbers, and its spec says 4: mend"),
    ],
)
def test_what_is_not_of_its_spec_is_said(changed: Any, message: str, batch_size: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=message):
        adapt_env(Numbers(batch_size, **changed)).reset()


@pytest.mark.parametrize("batch_size", [(), (2,)])
def test_rows_of_choices_become_blocks(batch_size: tuple[int, ...]) -> None:
    class Rows(Numbers):
        def _step(self, tensordict: TensorDict) -> TensorDict:
            rows = tensordict["action"]
            assert rows.shape == (*batch_size, 3, 2)
            assert (rows.sum(-1) == 1).all()
            return super()._step(tensordict)

    env = Rows(batch_size)
    env.action_spec = OneHot(2).expand(*batch_size, 3, 2)
    env = adapt_env(env)
    check_env_specs(env)
    assert isinstance(env.action_spec, MultiOneHot)
    assert env.action_spec.shape == (*batch_size, 6)


def test_texts_of_a_torchrl_environment_are_left_out() -> None:
    spec = Composite(mission=NonTensor((), example_data="go"), numbers=Unbounded(3))
    entries = choose_entries(spec, 0, "auto", None)
    assert (entries.pixels, entries.vectors, entries.left_out) == (None, ["numbers"], ["mission"])


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("CartPole-v1", {}, True),
        ("CartPole-v1", {"observation": "pixels"}, False),
        ("ALE/Pong-v5", {}, False),
        ("ALE/Pong-v5", {"observation": "state"}, True),
        ("nothing-v9", {}, False),
    ],
)
def test_who_observes_vectors_alone(name, options, wanted):
    assert observes_vectors(name, **options) is wanted


@pytest.mark.parametrize("whole", [lambda parts: Dict(a=parts[0], b=parts[1]), Tuple])
def test_an_image_among_others_is_found(whole) -> None:
    image, vector = Box(0, 255, (32, 32, 3), np.uint8), Box(-1, 1, (3,))
    assert has_image(whole((image, vector)))
    assert not has_image(whole((vector, vector)))
