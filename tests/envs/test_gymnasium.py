"""Gymnasium environments by name: any image, discrete and continuous actions, refusals, near matches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from tensordict import TensorDict
from torchrl.data import Bounded
from torchrl.envs import check_env_specs

from tests.support.games import CatchBall, Corridor, play_catch, play_steer
from torchrl_glam.envs import make_atari_env
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.one_hot_blocks import block_sizes

CATCH_BALL, STEER_BALL = "tests.support.games:CatchBall-v0", "tests.support.games:SteerBall-v0"


def one_hot(game: CatchBall) -> torch.Tensor:
    """The right action in ``CatchBall``."""
    return torch.nn.functional.one_hot(torch.tensor(play_catch(game)), 3)


@pytest.mark.parametrize(
    ("name", "play"), [(CATCH_BALL, one_hot), (STEER_BALL, lambda game: torch.tensor([play_steer(game)]))]
)
def test_the_ball_games_are_hard_by_chance_and_possible(name: str, play: Any) -> None:
    env = make_atari_env(name, seed=0)
    check_env_specs(env)
    game: CatchBall = env.base_env._env.unwrapped

    def policy(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", play(game))

    for _ in range(2):
        episode = env.rollout(100, policy)
        assert episode["next", "episode_reward"][-1] == 5
        assert len(episode) == 60
        assert torch.equal(episode["next", "life_loss"], episode["next", "terminated"])
        assert episode["next", "terminated"][-1]
    torch.manual_seed(0)
    chance = [env.rollout(100)["next", "reward"].sum().item() for _ in range(15)]
    assert 0.5 < np.mean(chance) < 2.5


class Picture(gymnasium.Env):
    """Observes the last action in every pixel of an image of any shape, drawn into the same array each time."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's interface)

    def __init__(
        self,
        shape: tuple[int, ...] = (64, 64, 3),
        dtype: str = "uint8",
        high: float = 255,
        actions: gymnasium.Space | None = None,
        rendered: tuple[int, int] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = Box(0, high, shape, np.dtype(dtype).type)
        self.action_space = actions or Discrete(4)
        self.metadata = {"render_modes": ["rgb_array"] if rendered else []}
        self.render_mode = render_mode
        self._image, self._rendered, self._unit = np.zeros(shape, dtype), rendered, 10 * high / 255

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._image, {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self._image[:] = self._unit * np.sum(action)
        return self._image, 0.0, False, False, {}

    def render(self) -> Any:
        return np.full((*self._rendered, 3), self._image.flat[0], np.uint8)


@pytest.fixture
def picture() -> Iterator[str]:
    """The name under which ``Picture`` is registered, to be given its options."""
    gymnasium.register("Picture-v0", entry_point=Picture, disable_env_checker=True)
    yield "Picture-v0"
    del gymnasium.registry["Picture-v0"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shape": (7, 7, 3)},
        {"shape": (56, 56, 3)},
        {"shape": (210, 160, 3)},
        {"shape": (3, 100, 80)},
        {"shape": (1, 64, 64)},
        {"shape": (100, 80, 3), "dtype": "float32", "high": 1},
        {"shape": (3, 64, 64), "dtype": "float64", "high": 1},
        {"shape": (100, 80, 1)},
        {"shape": (64, 64, 1)},
        {"shape": (50, 64)},
        {"shape": (64, 64)},
        {"shape": (3,), "rendered": (90, 70)},
        {"shape": (64, 64, 3), "dtype": "float32", "rendered": (64, 64)},
        {"actions": Discrete(4, start=3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_any_image_becomes_rgb_of_the_right_size(picture: str, options: dict[str, Any], num_envs: int) -> None:
    gymnasium.registry[picture].kwargs = options
    env = make_atari_env(picture, seed=0, num_envs=num_envs, observation="pixels")
    check_env_specs(env)
    start = options["actions"].start if "actions" in options else 0
    records = env.rollout(20)
    chosen = records["action"].argmax(-1) + start
    assert records["next", "pixels"].shape == (*[num_envs][: num_envs - 1], 20, 64, 64, 3)
    assert (records["next", "pixels"] == 10 * chosen[..., None, None, None]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_continuous_actions_are_rescaled(picture: str, dtype: type, num_envs: int) -> None:
    gymnasium.registry[picture].kwargs = {
        "actions": Box(np.array([2, 0], dtype), np.array([6, 10], dtype), dtype=dtype)
    }
    env = make_atari_env(picture, seed=0, num_envs=num_envs)
    check_env_specs(env)
    spec = env.action_spec_unbatched
    assert isinstance(spec, Bounded)
    assert (spec.shape, spec.dtype) == ((2,), torch.float32)
    assert spec.space.low.tolist() == [-1, -1]
    assert spec.space.high.tolist() == [1, 1]
    records = env.rollout(20)
    assert records["action"].abs().max() > 0.9
    first, second = records["action"].double().unbind(-1)
    total = (4 + 2 * first) + (5 + 5 * second)
    difference = records["next", "pixels"] - 10 * total[..., None, None, None]
    assert difference.abs().max() < 1.0001, "uint8 rounds down"


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    "actions",
    [
        MultiDiscrete([2, 2]),
        MultiDiscrete([3, 3, 3], start=[1, 0, -1]),
        MultiDiscrete([3]),
        MultiDiscrete([3], start=[2]),
        MultiDiscrete([1, 3]),
    ],
    ids=str,
)
def test_several_choices_are_one_hot_blocks(picture: str, actions: MultiDiscrete, num_envs: int) -> None:
    gymnasium.registry[picture].kwargs = {"actions": actions}
    env = make_atari_env(picture, seed=0, num_envs=num_envs)
    check_env_specs(env)
    sizes = [int(size) for size in actions.nvec]
    assert block_sizes(env.action_spec_unbatched) == sizes
    records = env.rollout(20)
    blocks = records["action"].split(sizes, -1)
    assert all((block.sum(-1) == 1).all() for block in blocks)
    total = sum(int(start) + block.argmax(-1) for start, block in zip(actions.start, blocks, strict=True))
    assert (records["next", "pixels"] == (10 * total % 256)[..., None, None, None]).all(), "in the order of the choices"


def test_a_dict_is_rendered_and_its_picture_resized() -> None:
    env = make_atari_env("tests.support.games:Corridor-v0", seed=0, observation="pixels")
    check_env_specs(env)
    game: Corridor = env.base_env._env.unwrapped
    tensordict = env.reset()
    for _ in range(4):
        tensordict = env.step(tensordict.set("action", torch.tensor([0, 1])))["next"]
    assert game.cell == 4
    lit = torch.arange(64) * 7 // 64 == 4
    columns = tensordict["pixels"].float().mean((0, 2))
    assert (columns[lit] > 100).all()
    assert (columns[~lit] < 100).all()


def test_a_rendered_control_task_works() -> None:
    pytest.importorskip("pygame")
    env = make_atari_env("Pendulum-v1", seed=0, observation="pixels")
    records = env.rollout(5)
    assert records["pixels"].shape == (5, 64, 64, 3)
    assert env.action_spec.shape == (1,)
    assert not torch.equal(records["pixels"][0], records["pixels"][-1]), "it moves"


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3,)},
        {"shape": (4, 64, 64)},
        {"shape": (64, 64, 3), "dtype": "float32"},
        {"shape": (64, 64, 3), "dtype": "int32"},
        {"actions": Box(-1, np.inf, (2,))},
        {"actions": Box(-1, 1, (2, 2))},
        {"actions": Box(-1, 1, ())},
        {"actions": Box(0, 3, (2,), np.int64)},
        {"actions": Box(np.zeros(2), np.array([0.0, 1.0]), dtype=np.float64)},
        {"actions": MultiDiscrete([[2, 2]])},
        {"actions": MultiBinary(3)},
        {"actions": Discrete(1)},
        {"no_such_option": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_unsuitable_environment_is_refused_by_name(picture: str, options: dict[str, Any], num_envs: int) -> None:
    gymnasium.registry[picture].kwargs = options
    with pytest.raises(UsageError, match="'Picture-v0'") as caught:
        make_atari_env(picture, num_envs=num_envs, observation="pixels")
    wanted = "Discrete" if "actions" in options else "no_such_option" if "no_such_option" in options else "an image"
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Pong", "ALE/Pong", "PongNoFrameskip-v4", "Pong-v4", "ale/pong-v5", "ALE/Pnog-v5", "ALE/Pong-v9"]
)
def test_a_wrong_name_lists_near_matches(name: str) -> None:
    with pytest.raises(UsageError, match=f"there is no environment '{name}': did you mean ALE/Pong-v5"):
        make_atari_env(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "qqqqqqqqqqqqq"}, "list all by"),
        ({"name": ""}, "there is no environment"),
        ({"name": "CartPole-v8"}, r"did you mean CartPole-v1\?"),
        ({"name": "no_such_module:Game-v0"}, "the module 'no_such_module', which cannot be imported"),
        ({"name": "tests.support.games:CatchBall-v7"}, r"did you mean CatchBall-v0\?"),
        ({"name": "GymV21Environment-v0"}, "could not be made: .*shimmy"),
        ({"protocol": "Glam"}, "protocol='Glam' does not exist: use one of glam, standard"),
        ({"frame_skip": 0}, "frame_skip=0 cannot be: use 1 or more"),
        ({"num_envs": 0}, "num_envs=0 cannot be: use 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_atari_env(**{"name": "ALE/Pong-v5", **arguments})
    assert "\n" not in str(caught.value)


def test_a_simulator_that_is_not_installed_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(UsageError, match=r"'LunarLander-v3' could not be made: .*gymnasium\[box2d\]") as caught:
        make_atari_env("LunarLander-v3")
    assert "\n" not in str(caught.value)
