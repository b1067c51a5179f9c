"""Environments by name: their keys, the two protocols, seeds and silence."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torchrl.data import OneHot
from torchrl.envs import TransformedEnv, check_env_specs

from tests.support.games import CountingGame
from tests.support.paths import ROOT
from torchrl_glam.envs.atari import PROTOCOLS, make_atari_env

CATCH_BALL = "tests.support.games:CatchBall-v0"
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
    def run(seed: int | None) -> tuple[list[bytes], list[int]]:
        """Play three episodes, then count the no-ops of 20 more: Breakout's images tell them only modulo 4."""
        env = make_atari_env("ALE/Breakout-v5", protocol=protocol, seed=seed)
        episodes = [play(env).numpy().tobytes() for _ in range(3)]
        noops = []
        for _ in range(20):
            env.reset()
            noops.append(ale(env).getEpisodeFrameNumber())
        return episodes, noops

    first, again, other, unseeded = run(1), run(1), run(2), run(None)
    assert first == again
    assert first != other
    assert first != unseeded, "whose chance of being the same is 30 ** -20"
    images = first[0]
    assert images[0] != images[1]
    assert images[1] != images[2]


def test_nothing_is_printed_and_no_warning_raised() -> None:
    code = f"""
from torchrl.envs import check_env_specs
from torchrl_glam.envs.atari import make_atari_env
for name, num_envs in (("ALE/Pong-v5", 1), ("ALE/Pong-v5", 2), ("{CATCH_BALL}", 1), ("{CATCH_BALL}", 2)):
    env = make_atari_env(name, seed=0, num_envs=num_envs)
    check_env_specs(env)
    env.rollout(5)
    env.close()
"""
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {"RL_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": "1", "PATH": ""}
    root = ROOT
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


def test_frame_skip_and_image_size_are_honoured() -> None:
    assert len(make_atari_env(CATCH_BALL, frame_skip=4).rollout(100)) == 15
    env = make_atari_env("ALE/Pong-v5", frame_skip=3, image_size=32)
    assert env.rollout(5)["pixels"].shape == (5, 32, 32, 3)
    assert ale(env).getEpisodeFrameNumber() == 15
    env = make_atari_env("tests.support.games:CountingGame-v0", seed=0, image_size=128, frame_skip=1)
    assert CountingGame.read(env.rollout(7)["next", "pixels"][-1].numpy())[0] == [7]
