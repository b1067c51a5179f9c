"""Wrappers of Gymnasium environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from tests.support.games import CatchBall, CountingGame
from torchrl_glam.envs.atari import make_atari_env
from torchrl_glam.envs.wrappers import BoolEnds, SkipFrames


class DrawnOver(CountingGame):
    """Draws every frame into the same array."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = np.zeros((128, 128, 3), np.uint8)

    def step(self, action: int) -> Any:
        frame, *rest = super().step(action)
        self.screen[:] = frame
        return self.screen, *rest


@pytest.mark.parametrize("game", [CountingGame, DrawnOver])
@pytest.mark.parametrize("number", [2, 4])
def test_a_step_shows_its_own_last_frames(game: type[CountingGame], number: int) -> None:
    """Episodes of 41, 30, 27 and 35 frames end after 1, 2 or 3 of a step's frames too."""
    env = SkipFrames(game(), number)
    for episode, length in enumerate(CountingGame.LENGTHS):
        env.reset(seed=episode)
        for first in range(1, length + 1, number):
            last = min(first + number - 1, length)
            image, reward, terminated, *_ = env.step(2)
            assert CountingGame.read(image) == [sorted({max(first, last - 1), last}), [episode], [2]]
            assert reward == sum(CountingGame.reward(frame, 2) for frame in range(first, last + 1))
            assert terminated == (last == length)


class Ends(CatchBall):
    """Says by other kinds than bool that its third step is the last one."""

    def __init__(self, kind: type, truncate: bool) -> None:
        super().__init__()
        self.kind, self.truncate = kind, truncate

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.steps += 1
        end, (image, reward, _, _, info) = self.steps == 3, super().step(action)
        ends = (not self.truncate and end, self.truncate and end)
        return image, reward, *(self.kind(flag) for flag in ends), info


@pytest.mark.parametrize("kind", [bool, int, np.bool_, float])
@pytest.mark.parametrize("truncate", [False, True])
def test_ends_of_any_kind(monkeypatch: pytest.MonkeyPatch, kind: type, truncate: bool) -> None:
    options = {"kind": kind, "truncate": truncate}
    spec = EnvSpec("Ends-v0", Ends, disable_env_checker=True, kwargs=options)  # it warns of other kinds
    monkeypatch.setitem(gymnasium.registry, "Ends-v0", spec)
    rollout = make_atari_env("Ends-v0").rollout(10)["next"]
    wanted = [[False], [False], [True]]
    assert rollout["done"].tolist() == wanted
    assert rollout["terminated"].tolist() == (wanted if not truncate else [[False]] * 3)


def test_wrappers_are_part_of_the_specification() -> None:
    env = SkipFrames(BoolEnds(gymnasium.make("tests.support.games:CatchBall-v0")), 3)
    assert isinstance(gymnasium.make(env.spec), SkipFrames)
