"""Environments: the real ones and the imagined one."""

from __future__ import annotations

from torchrl_glam.envs.adapt import adapt_env
from torchrl_glam.envs.atari import PROTOCOLS, make_atari_env
from torchrl_glam.envs.imagined import GLAMImaginedEnv
from torchrl_glam.envs.observations import describe_observation

__all__ = ["PROTOCOLS", "GLAMImaginedEnv", "adapt_env", "describe_observation", "make_atari_env"]
