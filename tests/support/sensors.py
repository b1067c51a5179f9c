"""Environments for tests whose observations are no single image: ``gymnasium.make("tests.support.sensors:Arm-v0")``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space


class Sensors(gymnasium.Env):
    """A position on a circle of 40 that the action moves; the reward is 1 within 4 of the top.

    Subclasses say how it is observed and moved.
    """

    CIRCLE = 40
    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's interface)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start anywhere."""
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(self.CIRCLE))
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        """Move; the episode never terminates."""
        self.place = (self.place + self.move(action)) % self.CIRCLE
        return self.observe(), float(min(self.place, self.CIRCLE - self.place) <= 4), False, False, {}

    def move(self, action: Any) -> float:
        """Return how far an action moves."""
        raise NotImplementedError

    def observe(self) -> Any:
        """Return the observation."""
        raise NotImplementedError

    def angles(self, number: int) -> np.ndarray:
        """Return cosines of the position and of multiples of it."""
        return np.cos(2 * np.pi * self.place / self.CIRCLE * np.arange(1, number + 1))


class Arm(Sensors):
    """A camera and seven joints, moved by a continuous action."""

    def __init__(self) -> None:
        self.observation_space = Dict({"camera": Box(0, 255, (48, 80, 3), np.uint8), "joints": Box(-1, 1, (7,))})
        self.action_space = Box(-2, 2, (1,))

    def move(self, action: Any) -> float:
        """Move by up to two."""
        assert self.action_space.contains(action)
        return float(action[0])

    def observe(self) -> Any:
        """Draw a bar at the position."""
        camera = np.zeros((48, 80, 3), np.uint8)
        left = int(2 * self.place)
        camera[:, left : left + 8] = (255, 128, 0)
        return {"camera": camera, "joints": self.angles(7).astype(np.float32)}


class Mission(Space):
    """A text that is no ``Text``, as MiniGrid has it."""

    def __init__(self) -> None:
        super().__init__(dtype=str)

    def contains(self, x: Any) -> bool:
        """Return whether it is a text."""
        return isinstance(x, str)


class Grid(Sensors):
    """Observes as MiniGrid's environments do: a grid of symbols, a direction, a text."""

    def __init__(self) -> None:
        self.observation_space = Dict(
            {"image": Box(0, 255, (7, 7, 3), np.uint8), "direction": Discrete(4), "mission": Mission()}
        )
        self.action_space = Discrete(3)

    def move(self, action: Any) -> float:
        """Stay, or move by one."""
        return (0, 1, -1)[int(action)]

    def observe(self) -> Any:
        """Return the position as a symbol."""
        image = np.full((7, 7, 3), self.place, np.uint8)
        return {"image": image, "direction": np.int64(self.place % 4), "mission": "goto top"}


class Levers(Sensors):
    """Two levers at once, one forth and one back, of 3 and 2 positions that count from 1."""

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = MultiDiscrete([3, 2], start=[1, 1])

    def move(self, action: Any) -> float:
        """Move forth by 0 to 2 and back by 0 or 1."""
        assert self.action_space.contains(action), action
        return float(action[0] - action[1])

    def observe(self) -> Any:
        """Return angles."""
        return self.angles(2)


for _name, _class in (("Arm-v0", "Arm"), ("Grid-v0", "Grid"), ("Levers-v0", "Levers")):
    if _name not in gymnasium.registry:
        gymnasium.register(_name, entry_point=f"tests.support.sensors:{_class}", max_episode_steps=25)
