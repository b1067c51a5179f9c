"""Gymnasium wrappers for the environments of others."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from torchrl_glam.envs.images import image_layout
from torchrl_glam.envs.spaces import check_fit
from torchrl_glam.errors import UsageError

Step = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class BoolEnds(gymnasium.Wrapper, RecordConstructorArgs):
    """Says whether an episode has ended by ``bool``, where an environment does so by numbers.

    torchrl 0.14.1 takes a ``bool`` or an array; a plain ``1`` ends there in an ``AttributeError``.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def step(self, action: Any) -> Step:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, bool(terminated), bool(truncated), info


class CheckedSteps(gymnasium.Wrapper, RecordConstructorArgs):
    """Refuses, in one line, an observation that is not of its space and a reward that is no finite number."""

    def __init__(self, env: gymnasium.Env, name: str) -> None:
        RecordConstructorArgs.__init__(self, name=name)
        gymnasium.Wrapper.__init__(self, env)
        self._name = name

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        check_fit(observation, self.observation_space, self._name)
        return observation, info

    def step(self, action: Any) -> Step:
        """Take a step."""
        observation, reward, *rest = self.env.step(action)
        check_fit(observation, self.observation_space, self._name)
        number: Any = reward
        if np.size(number) != 1 or not np.isfinite(np.asarray(number, float)).all():
            raise UsageError(
                f"{self._name!r} gives the reward {reward}, and one finite number is wanted: mend its step"
            )
        return observation, reward, *rest


class SkipFrames(gymnasium.Wrapper, RecordConstructorArgs):
    """Repeats each action for some frames, and shows the last one; if an image is all, the maximum of the last two.

    Not Gymnasium's ``MaxAndSkipObservation``: where an episode ends before a step's last frame, 1.3 shows frames of an
    earlier step, and in a first step black ones. Here a step of one frame shows that.

    Args:
        env: any.
        number: frames in a step.
    """

    def __init__(self, env: gymnasium.Env, number: int) -> None:
        RecordConstructorArgs.__init__(self, number=number)
        gymnasium.Wrapper.__init__(self, env)
        self._number = number
        self._merges = image_layout(env.observation_space.shape or ()) is not None

    def step(self, action: Any) -> Step:
        """Repeat the action until the step's or the episode's end; the reward is the frames' sum."""
        frame, reward, terminated, truncated, info = self.env.step(action)
        total, before = float(reward), frame
        for _ in range(self._number - 1):
            if terminated or truncated:
                break
            before = np.array(frame) if self._merges else frame  # an image may be drawn over
            frame, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
        frame = np.maximum(before, frame) if self._merges else frame
        return frame, total, terminated, truncated, info
