"""Many Atari games at once: ale-py's own vector environment, which steps them in threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space

Observed = tuple[np.ndarray, dict[str, Any]]


class ManualResetVector(VectorWrapper):
    """ale-py's vector environment, with single frames and without its autoreset.

    Of ale-py 0.12.1's modes, ``NEXT_STEP`` puts a step without a meaning between two episodes, and ``SAME_STEP`` hands
    out the lives of the next episode together with the last frame of this one. But games that are reset by mask as soon
    as they end, as torchrl does where the mode is ``DISABLED``, leave ``NEXT_STEP`` nothing to do. (ale-py 0.12.0 hangs
    at a reset by mask, and older ones refuse it.)

    Args:
        env: the games, with the mode ``NEXT_STEP`` and a stack of one frame.
        screen: height and width of their frames.
    """

    autoreset_mode = AutoresetMode.DISABLED

    def __init__(self, env: AtariVectorEnv, screen: tuple[int, int]) -> None:
        super().__init__(env)
        self.single_observation_space = Box(0, 255, (*screen, 3), np.uint8)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.lives = torch.zeros(env.num_envs, dtype=torch.int64)
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Observed:
        """Reset all games, or those of ``options["reset_mask"]``; a seed gives each game another one.

        ale-py 0.12.1 would give game i the seed plus i, so that runs with neighbouring seeds shared most of their
        games; and without a seed, all games would start from the same second of the clock.
        """
        seeds = None if seed is None and self._seeded else game_seeds(seed, self.num_envs)
        self._seeded = True
        frames, info = self.env.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        return self._observe(frames, info)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all games; one that ends shows its last frame."""
        frames, reward, terminated, truncated, info = self.env.step(actions)
        frames, info = self._observe(frames, info)
        return frames, reward, terminated, truncated, info

    def _observe(self, frames: np.ndarray, info: dict[str, Any]) -> Observed:
        self.lives = torch.as_tensor(info["lives"]).long()
        return frames[:, 0], info


def game_seeds(seed: int | None, number: int) -> np.ndarray:
    """One seed per game, of 31 bits as the emulator takes them; ``None`` draws them from the system."""
    return np.random.SeedSequence(seed).generate_state(number).astype(np.int64) & 0x7FFFFFFF


def make_ale_vector(
    game: str,
    num_envs: int,
    *,
    frame_skip: int,
    screen: tuple[int, int],
    noop_max: int,
    repeat_action_probability: float,
) -> ManualResetVector:
    """Make ``num_envs`` games that differ from Gymnasium's ``AtariPreprocessing`` in two numbers.

    An episode starts with 0 to ``noop_max`` no-ops, Gymnasium's with 1 to ``noop_max``; and it is truncated after
    108 000 frames, among which only Gymnasium counts the no-ops. From the same frame on, the same actions give the same
    bits. ``screen`` is height and width of the frames.
    """
    env = AtariVectorEnv(
        game,
        num_envs,
        frameskip=frame_skip,
        img_height=screen[0],
        img_width=screen[1],
        grayscale=False,
        stack_num=1,
        noop_max=noop_max + 1,  # draws from 0 up to below it
        repeat_action_probability=repeat_action_probability,
        reward_clipping=False,
        use_fire_reset=False,
    )
    return ManualResetVector(env, screen)
