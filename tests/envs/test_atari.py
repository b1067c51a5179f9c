"""Environments by name: their keys, the two protocols, seeds, silence and refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from tensordict import TensorDict
from torchrl.data import OneHot
from torchrl.envs import TransformedEnv, check_env_specs

from tests.games import CatchBall, CountingGame, play_catch
from torchrl_glam.envs.atari import PROTOCOLS, make_atari_env
from torchrl_glam.errors import UsageError

CATCH_BALL = "tests.games:CatchBall-v0"
FLAG, SCALAR = ((1,), torch.bool), ((1,), torch.float32)
KEYS = {  # after a step
    "pixels": ((64, 64, 3), torch.uint8),
    "reward": SCALAR,
    "terminated": FLAG,
    "truncated": FLAG,
    "done": FLAG,
    "life_loss": FLAG,
    "episode_reward": SCALAR,
    "step_count": ((1,), torch.int64),
    "is_init": FLAG,
}
GAMES = {  # the 26 games of Atari 100k, by the number of actions of their minimal set
    18: "Alien BankHeist BattleZone Boxing ChopperCommand Frostbite Hero Jamesbond Kangaroo Krull PrivateEye "
    "RoadRunner Seaquest",
    14: "KungFuMaster",
    10: "Amidar",
    9: "Asterix CrazyClimber MsPacman",
    8: "Gopher",
    7: "Assault",
    6: "DemonAttack Pong Qbert UpNDown",
    4: "Breakout",
    3: "Freeway",
}
NUM_ACTIONS = {game: number for number, games in GAMES.items() for game in games.split()}


def ale(env: TransformedEnv) -> Any:
    """The emulator inside."""
    return env.base_env._env.unwrapped.ale


def play(env: TransformedEnv, num_steps: int = 30) -> torch.Tensor:
    """The images of the next episode's first steps [t 64 64 3], by a fixed cycle of actions."""
    tensordict, images = env.reset(), []
    number = env.action_spec.shape[-1]
    for step in range(num_steps):
        action = torch.nn.functional.one_hot(torch.tensor(step * 5 // 3 % number), number)
        tensordict = env.step(tensordict.set("action", action))["next"]
        images.append(tensordict["pixels"])
    return torch.stack(images)


@pytest.mark.parametrize("name", ["ALE/Breakout-v5", CATCH_BALL])
def test_keys_shapes_and_types_are_those_of_the_design(name: str) -> None:
    env = make_atari_env(name)
    check_env_specs(env)
    assert isinstance(env.action_spec, OneHot)
    step = env.rollout(3)[-1]["next"]
    step = step.exclude("lives") if name.startswith("ALE/") else step
    assert {key: (tuple(value.shape), value.dtype) for key, value in step.items()} == KEYS


@pytest.mark.parametrize("game", NUM_ACTIONS)
def test_every_game_of_atari_100k_steps_with_its_minimal_actions(game: str) -> None:
    env = make_atari_env(f"ALE/{game}-v5", seed=0)
    assert env.action_spec.shape[-1] == NUM_ACTIONS[game] == len(ale(env).getMinimalActionSet())
    assert env.rollout(2)["next", "pixels"].any(), "the screen shows something"
    env.close()


def test_the_table_of_games_is_whole() -> None:
    assert len(NUM_ACTIONS) == 26


def test_protocols_are_the_published_ones() -> None:
    glam, standard = PROTOCOLS["glam"], PROTOCOLS["standard"]
    assert (glam.repeat_action_probability, glam.noop_max, glam.evaluation_episodes) == (0.25, 0, 20)
    assert (standard.repeat_action_probability, standard.noop_max, standard.evaluation_episodes) == (0.0, 30, 100)


def test_glam_protocol_has_sticky_actions_and_no_no_ops() -> None:
    env = make_atari_env("ALE/Breakout-v5", seed=0)
    assert ale(env).getFloat("repeat_action_probability") == 0.25
    episodes = []
    for _ in range(4):
        env.reset()
        assert ale(env).getEpisodeFrameNumber() == 0
        episodes.append(play(env))
        assert ale(env).getEpisodeFrameNumber() == 4 * 30, "four emulator frames a step"
    assert len({images.numpy().tobytes() for images in episodes}) > 1, "chance changes what the same actions do"


def test_standard_protocol_has_no_ops_and_no_other_chance() -> None:
    env = make_atari_env("ALE/Breakout-v5", protocol="standard", seed=0)
    assert ale(env).getFloat("repeat_action_probability") == 0.0
    episodes: dict[int, torch.Tensor] = {}
    repeated = 0
    for _ in range(40):
        images = play(env, 15)
        num_noops = ale(env).getEpisodeFrameNumber() - 4 * 15
        repeated += num_noops in episodes
        assert torch.equal(images, episodes.setdefault(num_noops, images))
    assert min(episodes) >= 1
    assert max(episodes) <= 30
    assert len(episodes) > 10
    assert repeated, "or nothing was compared"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_seed_gives_the_same_run_of_different_episodes(protocol: str) -> None:
    def run(seed: int | None) -> list[torch.Tensor]:
        env = make_atari_env("ALE/Breakout-v5", protocol=protocol, seed=seed)
        return [play(env) for _ in range(3)]

    first, again, other, unseeded = run(1), run(1), run(2), run(None)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    for different in (other, unseeded):
        assert not all(torch.equal(*pair) for pair in zip(first, different, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_nothing_is_printed_and_no_warning_raised() -> None:
    code = f"""
from torchrl.envs import check_env_specs
from torchrl_glam.envs.atari import make_atari_env
for name in ("ALE/Pong-v5", "{CATCH_BALL}"):
    env = make_atari_env(name, seed=0)
    check_env_specs(env)
    env.rollout(5)
    env.close()
"""
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {"RL_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": "1", "PATH": ""}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_life_lost_is_flagged_once_and_resets_nothing() -> None:
    env = make_atari_env("ALE/Breakout-v5", seed=0)
    fire = torch.tensor([0, 1, 0, 0])
    records = env.rollout(200, lambda tensordict: tensordict.set("action", fire), break_when_any_done=True)
    after = records["next"]
    lost = after["lives"] < records["lives"]
    assert lost.sum() == 5
    assert torch.equal(after["life_loss"].squeeze(-1), lost)
    assert after["terminated"].sum() == 1
    assert after["terminated"][-1]


def test_catch_ball_is_hard_by_chance_and_possible() -> None:
    env = make_atari_env(CATCH_BALL, seed=0)
    game: CatchBall = env.base_env._env.unwrapped

    def policy(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", torch.nn.functional.one_hot(torch.tensor(play_catch(game)), 3))

    for _ in range(5):
        episode = env.rollout(100, policy)
        assert episode["next", "episode_reward"][-1] == 5
        assert len(episode) == 60
        assert torch.equal(episode["next", "life_loss"], episode["next", "terminated"])
        assert episode["next", "terminated"][-1]
    torch.manual_seed(0)
    chance = [env.rollout(100)["next", "reward"].sum().item() for _ in range(30)]
    assert 0.5 < np.mean(chance) < 2.5


def test_frame_skip_and_image_size_are_honoured() -> None:
    assert len(make_atari_env(CATCH_BALL, frame_skip=4).rollout(100)) == 15
    env = make_atari_env("ALE/Pong-v5", frame_skip=3, image_size=32)
    assert env.rollout(5)["pixels"].shape == (5, 32, 32, 3)
    assert ale(env).getEpisodeFrameNumber() == 15
    env = make_atari_env("tests.games:CountingGame-v0", seed=0, image_size=128, frame_skip=1)
    assert CountingGame.read(env.rollout(7)["next", "pixels"][-1].numpy())[0] == [7]


class Picture(gymnasium.Env):
    """Observes the last action in every pixel of an image of any shape, drawn into the same array each time."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's interface)

    def __init__(
        self,
        shape: tuple[int, ...] = (64, 64, 3),
        dtype: str = "uint8",
        actions: gymnasium.Space | None = None,
        rendered: tuple[int, int] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = Box(0, 255, shape, np.dtype(dtype).type)
        self.action_space = actions or Discrete(4)
        self.metadata = {"render_modes": ["rgb_array"] if rendered else []}
        self.render_mode = render_mode
        self._image, self._rendered = np.zeros(shape, dtype), rendered

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._image, {}

    def step(self, action: int) -> Any:
        self._image[:] = 10 * action
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
        {"shape": (100, 80, 3)},
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
def test_any_image_becomes_rgb_of_the_right_size(picture: str, options: dict[str, Any]) -> None:
    gymnasium.registry[picture].kwargs = options
    env = make_atari_env(picture, seed=0)
    check_env_specs(env)
    start = options["actions"].start if "actions" in options else 0
    records = env.rollout(20)
    chosen = records["action"].argmax(-1) + start
    assert (records["next", "pixels"] == 10 * chosen[:, None, None, None]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3,)},
        {"shape": (3, 64, 64)},
        {"shape": (64, 64, 3), "dtype": "float32"},
        {"actions": Box(-1, 1, (2,))},
        {"actions": gymnasium.spaces.MultiDiscrete([2, 2])},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_an_unsuitable_environment_is_refused_by_name(picture: str, options: dict[str, Any]) -> None:
    gymnasium.registry[picture].kwargs = options
    with pytest.raises(UsageError, match="'Picture-v0'") as caught:
        make_atari_env(picture)
    wanted = "Discrete" if "actions" in options else "no_such_option" if "no_such_option" in options else "uint8 image"
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
        ({"name": "tests.games:CatchBall-v7"}, r"did you mean CatchBall-v0\?"),
        ({"name": "GymV21Environment-v0"}, "could not be made: .*shimmy"),
        ({"protocol": "Glam"}, "protocol='Glam' does not exist: use one of glam, standard"),
        ({"frame_skip": 0}, "frame_skip=0 is no number of frames"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_atari_env(**{"name": "ALE/Pong-v5", **arguments})
    assert "\n" not in str(caught.value)
