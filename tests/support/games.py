"""Real Gymnasium games for tests, made by name: ``gymnasium.make("tests.support.games:CatchBall-v0")``.

``CountingGame`` writes what happened into its pixels, so that a test can check any record that it finds downstream.
``CatchBall``, with discrete actions, and ``SteerBall``, with continuous ones, are games that an agent can learn in
minutes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class CountingGame(gymnasium.Env):
    """A stand-in for the ALE whose image tells emulator frame, episode and last action.

    The image is a board of 8x8 solid squares. In each colour one square is lit: red at the number of the frame within
    the episode, green at the number of the episode, blue at the last action, if any, all modulo 64. The maximum of two
    frames lights the squares of both. ``read`` gives the squares back, also from a resized image.

    Args:
        truncate: the episodes' ends truncate instead of terminating.
    """

    LENGTHS = (41, 30, 27, 35)  # frames per episode, in turns; the first is no multiple of 4
    LIFE_LOSSES = (9, 18, 27)  # the frames at which a life goes; the last may fall on the episode's end
    NUM_ACTIONS = 4
    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's interface)

    def __init__(self, truncate: bool = False) -> None:
        self.action_space = Discrete(self.NUM_ACTIONS)
        self.observation_space = Box(0, 255, (128, 128, 3), np.uint8)
        self.ale = self  # lives and getScreenRGB below are the part of the ALE that wrappers use
        self._frameskip = 1
        self._truncate = truncate
        self._episode, self._frame, self._action = -1, 0, -1

    @classmethod
    def reward(cls, frame: int, action: int) -> int:
        """The reward for reaching ``frame`` by ``action``: tells both."""
        return 100 * action + frame

    @classmethod
    def read(cls, image: np.ndarray) -> list[list[int]]:
        """The lit squares of red (frames), green (episodes) and blue (actions) of an image [h w 3], ascending."""
        square = image.shape[0] // 8
        board = image.reshape(8, square, 8, square, 3).transpose(0, 2, 4, 1, 3).reshape(64, 3, -1)
        assert (board == board[..., :1]).all(), "squares are not solid"
        return [np.flatnonzero(board[:, colour, 0]).tolist() for colour in range(3)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts the next episode; a seed, modulo 40, is the number of the episode to start from."""
        super().reset(seed=seed)
        self._episode = seed % 40 if seed is not None else self._episode + 1
        self._frame, self._action = 0, -1
        return self.getScreenRGB(), {}

    def step(self, action: int) -> Step:
        """Goes on by one emulator frame."""
        self._frame, self._action = self._frame + 1, int(action)
        end = self._frame >= self.LENGTHS[self._episode % len(self.LENGTHS)]
        reward = float(self.reward(self._frame, self._action))
        return self.getScreenRGB(), reward, end and not self._truncate, end and self._truncate, {}

    def lives(self) -> int:
        """The ALE's count of lives."""
        return 1 + sum(self._frame < loss for loss in self.LIFE_LOSSES)

    def getScreenRGB(self, buffer: np.ndarray | None = None) -> np.ndarray:
        """The ALE's screen, written to ``buffer`` if there is one."""
        board = np.zeros((64, 3), np.uint8)
        board[self._frame % 64, 0] = board[self._episode % 64, 1] = 255
        if self._action >= 0:
            board[self._action, 2] = 255
        image = board.reshape(8, 8, 3).repeat(16, axis=0).repeat(16, axis=1)
        if buffer is None:
            return image
        buffer[:] = image
        return buffer

    def get_action_meanings(self) -> list[str]:
        """The ALE's names, of which the first must be NOOP."""
        return ["NOOP", "FIRE", "LEFT", "RIGHT"]


class CatchBall(gymnasium.Env):
    """A paddle catches falling balls: +1 for each of five, then the episode terminates.

    A ball of 12x12 falls straight down in 12 steps, from a random column. The paddle of 16x6 moves by 8 pixels
    (actions: stay, left, right) and catches a ball whose middle is above it. Shapes are large and columns are multiples
    of 4, so that a small world model sees and learns them in minutes. Random play catches 27 % of the balls.
    """

    BALLS, FALL, SPEED, BALL, PADDLE = 5, 12, 8, 12, 16
    paddle: int  # the left edges, in pixels
    ball: int
    _height: int  # steps left to fall
    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's interface)

    def __init__(self) -> None:
        self.action_space = Discrete(3)
        self.observation_space = Box(0, 255, (64, 64, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Puts the paddle in the middle and drops the first ball."""
        super().reset(seed=seed)
        self.paddle, self._balls = 24, self.BALLS
        self._drop()
        return self._draw(), {}

    def step(self, action: Any) -> Step:
        """Moves the paddle and the ball by one step."""
        self.paddle = int(np.clip(self.paddle + self._move(action), 0, 64 - self.PADDLE))
        self._height -= 1
        reward = 0.0
        if self._height == 0:
            reward = float(abs(self.offset()) <= self.PADDLE // 2)
            self._balls -= 1
            self._drop()
        return self._draw(), reward, self._balls == 0, False, {}

    def offset(self) -> int:
        """From the paddle's middle to the ball's, in pixels."""
        return (self.ball + self.BALL // 2) - (self.paddle + self.PADDLE // 2)

    def _move(self, action: Any) -> int:
        return self.SPEED * (0, -1, 1)[int(action)]

    def _drop(self) -> None:
        self.ball = 4 * int(self.np_random.integers((64 - self.BALL) // 4 + 1))
        self._height = self.FALL

    def _draw(self) -> np.ndarray:
        image = np.zeros((64, 64, 3), np.uint8)
        bottom = 58 - 46 * self._height // self.FALL
        image[bottom - self.BALL : bottom, self.ball : self.ball + self.BALL] = (255, 255, 0)
        image[58:, self.paddle : self.paddle + self.PADDLE] = (0, 255, 255)
        return image


def play_catch(game: CatchBall) -> int:
    """The action that catches every ball: go under the ball's middle."""
    offset = game.offset()
    return 0 if abs(offset) < game.SPEED else 1 + (offset > 0)


class SteerBall(CatchBall):
    """``CatchBall`` whose action is the paddle's velocity, from -8 to 8 pixels per step. Random play catches 28 %."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Box(-self.SPEED, self.SPEED, (1,), np.float32)

    def _move(self, action: Any) -> int:
        assert self.action_space.contains(action), "the velocity is out of bounds"
        return round(float(action[0]))


def play_steer(game: SteerBall) -> float:
    """The action, rescaled to [-1, 1], that catches every ball: go under the ball's middle."""
    return float(np.clip(game.offset() / game.SPEED, -1, 1))


class NoReward(CatchBall):
    """A game whose reward is not a number."""

    def step(self, action: Any) -> Step:
        """Plays on."""
        pixels, _, terminated, truncated, info = super().step(action)
        return pixels, float("nan"), terminated, truncated, info


class Corridor(gymnasium.Env):
    """Observes a Dict, as MiniGrid's environments do, and renders itself: a light that moves along seven cells."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's interface)
    CELLS, TILE = 7, 20

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = Discrete(2)
        self.observation_space = Dict({"image": Box(0, 255, (7, 7, 3), np.uint8), "direction": Discrete(4)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Puts the light into the first cell."""
        super().reset(seed=seed)
        self.cell = 0
        return self._observe(), {}

    def step(self, action: int) -> Any:
        """Moves the light; the last cell ends the episode."""
        self.cell = max(0, self.cell + (-1, 1)[int(action)])
        end = self.cell == self.CELLS - 1
        return self._observe(), float(end), end, False, {}

    def render(self) -> np.ndarray:
        """The corridor from above."""
        image = np.zeros((self.TILE, self.CELLS * self.TILE, 3), np.uint8)
        image[:, self.cell * self.TILE : (self.cell + 1) * self.TILE] = 200
        return image

    def _observe(self) -> dict[str, Any]:
        return {"image": np.full((7, 7, 3), self.cell, np.uint8), "direction": np.int64(0)}


class TwoLevers(gymnasium.Env):
    """A pixel environment with two actions at once, which is refused."""

    action_space = MultiBinary(2)
    observation_space = Box(0, 255, (64, 64, 3), np.uint8)


for _name, _game, _options in (
    ("CountingGame-v0", "CountingGame", {}),
    ("CountingGameTruncated-v0", "CountingGame", {"truncate": True}),
    ("CatchBall-v0", "CatchBall", {}),
    ("NoReward-v0", "NoReward", {}),
    ("SteerBall-v0", "SteerBall", {}),
    ("Corridor-v0", "Corridor", {}),
    ("TwoLevers-v0", "TwoLevers", {}),
):
    if _name not in gymnasium.registry:
        gymnasium.register(_name, entry_point=f"tests.support.games:{_game}", kwargs=_options)
