"""A tiny pixel game, for scripts whose learning should be over in seconds."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Walk(gymnasium.Env):
    """A light in one of four columns walks left or right; the further right it comes, the more a step earns.

    Frames have 16x16 pixels. An episode has 50 steps, of which each earns up to 1, and half of that in random play.
    """

    action_space, observation_space = Discrete(2), Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Put the light into a random column."""
        super().reset(seed=seed)
        self.steps, self.column = 0, int(self.np_random.integers(4))
        return self.draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move it left (0) or right (1)."""
        self.steps, self.column = self.steps + 1, min(max(self.column + (-1, 1)[action], 0), 3)
        return self.draw(), self.column / 3, False, self.steps == 50, {}

    def draw(self) -> np.ndarray:
        """Draw the frame."""
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, 4 * self.column : 4 * self.column + 4] = 255
        return image
