"""Tasks for teachers in tests, made by name: ``tests.support.tasks:CountingTask-v0``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class CountingTask(gymnasium.Env):
    """Observes its own number, the number of the episode and that of the step; every other episode is truncated.

    The reward for a step is its number, plus the action where ``paid`` is true.

    Args:
        discrete: two actions, instead of a number from -2 to 3.
        paid: the reward depends on the action too, so that there is something to learn.
    """

    LENGTHS = (3, 5, 2)  # in turns
    made = 0

    def __init__(self, discrete: bool = False, paid: bool = False) -> None:
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = Discrete(2) if discrete else Box(-2.0, 3.0, (1,), np.float32)
        CountingTask.made += 1
        self._number, self._episode, self._step, self._paid = CountingTask.made, -1, 0, paid

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._episode, self._step = self._episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._step += 1
        end = self._step == self.LENGTHS[self._episode % 3]
        truncate = self._episode % 2 == 1
        reward = self._step + (float(np.sum(action)) if self._paid else 0.0)
        return self._observe(), reward, end and not truncate, end and truncate, {}

    def _observe(self) -> np.ndarray:
        return np.array([self._number, self._episode, self._step], dtype=np.float64)


for _name, _options in {
    "CountingTask-v0": {},
    "CountingTaskDiscrete-v0": {"discrete": True},
    "PayingTask-v0": {"paid": True},
    "PayingTaskDiscrete-v0": {"discrete": True, "paid": True},
}.items():
    if _name not in gymnasium.registry:
        gymnasium.register(_name, entry_point="tests.support.tasks:CountingTask", kwargs=_options)
