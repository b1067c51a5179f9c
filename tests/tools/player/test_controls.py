"""Which keys mean which action."""

from __future__ import annotations

import pytest
import torch
from torchrl.data import Bounded, MultiOneHot, OneHot

from torchrl_glam.envs import make_atari_env
from torchrl_glam.tools.player.controls import Controls, action_meanings

FULL = ["NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT"]
FULL += ["UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE"]
PONG = ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
FREEWAY = ["NOOP", "UP", "DOWN"]

CASES = [
    (FULL, [], "NOOP"),
    (FULL, ["ArrowUp"], "UP"),
    (FULL, ["KeyS"], "DOWN"),
    (FULL, ["KeyA", "ArrowDown", "Space"], "DOWNLEFTFIRE"),
    (FULL, ["ArrowUp", "ArrowDown"], "UP"),  # there is no such action: one of them
    (FULL, ["Digit9"], "DOWNLEFT"),
    (FULL, ["KeyQ", "Escape"], "NOOP"),
    (PONG, ["ArrowUp"], "RIGHT"),
    (PONG, ["KeyS", "Space"], "LEFTFIRE"),
    (PONG, ["ArrowRight"], "RIGHT"),
    (PONG, ["Numpad3", "ArrowRight"], "LEFT"),
    (PONG, ["Digit9"], "NOOP"),  # there is none
    (FREEWAY, ["ArrowUp", "Space"], "UP"),
    (FREEWAY, ["ArrowLeft"], "NOOP"),
]


@pytest.mark.parametrize(("meanings", "held", "wanted"), CASES)
def test_keys_of_an_atari_game(meanings, held, wanted):
    controls = Controls(OneHot(len(meanings)), meanings)
    action = controls.action(held)
    assert controls.name(action) == wanted
    assert OneHot(len(meanings), dtype=torch.int64).is_in(action)


@pytest.mark.parametrize("meanings", [None, ["one", "two"], ["stay", "left", "right"]])
def test_any_discrete_environment_has_the_number_keys(meanings):
    controls = Controls(OneHot(3), meanings)
    assert controls.action({"Digit2"}).tolist() == [0, 0, 1]
    assert controls.action({"ArrowUp", "Space"}).tolist() == [1, 0, 0]
    assert controls.describe() == [("0-2", "the action of that number")]


@pytest.mark.parametrize(
    ("size", "held", "wanted"),
    [
        (1, [], [0]),
        (1, ["ArrowRight"], [1]),
        (1, ["KeyW"], [1]),
        (1, ["ArrowDown"], [-1]),
        (1, ["ArrowLeft", "ArrowRight"], [0]),
        (2, ["ArrowLeft", "KeyW"], [-1, 1]),
        (3, ["ArrowDown", "Digit1"], [0, -1, 0]),
    ],
)
def test_arrows_push_continuous_actions(size, held, wanted):
    controls = Controls(Bounded(-1, 1, (size,)))
    action = controls.action(held)
    assert action.tolist() == wanted
    assert action.dtype == torch.float32
    assert controls.name(action) == ", ".join(f"{value:+.2f}" for value in wanted)


def test_several_discrete_actions_have_number_keys_of_their_own():
    controls = Controls(MultiOneHot([3, 2]))
    assert controls.action({"Digit2", "Numpad4"}).tolist() == [0, 0, 1, 0, 1]
    assert controls.action({"Digit1", "Digit2", "ArrowUp"}).tolist() == [0, 1, 0, 1, 0]
    assert controls.action(()).tolist() == [1, 0, 0, 1, 0]
    assert controls.name(controls.action({"Digit2", "Digit4"})) == "2, 1"
    assert controls.describe() == [("0-2", "action 0"), ("3-4", "action 1")]
    assert Controls(MultiOneHot([9, 2, 2])).describe()[1:] == [("9-9", "action 1"), ("none", "action 2")]


def test_help_names_every_button_once():
    assert Controls(OneHot(6), PONG).describe() == [
        ("← A ↓ S", "LEFT"),
        ("→ D ↑ W", "RIGHT"),
        ("Space", "FIRE"),
        ("0-5", "NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE"),
    ]
    assert [keys for keys, _ in Controls(OneHot(18), FULL).describe()] == ["↑ W", "↓ S", "← A", "→ D", "Space", "0-9"]
    assert [does for _, does in Controls(Bounded(-1, 1, (1,))).describe()] == ["action to -1", "action to +1"]


@pytest.mark.parametrize(("name", "wanted"), [("ALE/Pong-v5", PONG), ("tests.support.games:CatchBall-v0", None)])
def test_names_come_from_the_game(name, wanted):
    env = make_atari_env(name)
    assert action_meanings(env) == wanted
    env.close()


def test_no_environment_has_no_names():
    assert action_meanings(None) is None
