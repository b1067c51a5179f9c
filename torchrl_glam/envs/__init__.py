"""Environments: the real ones and the imagined one."""

from __future__ import annotations

from torchrl_glam.envs.adapt import adapt_env
from torchrl_glam.envs.atari import PROTOCOLS, make_atari_env
from torchrl_glam.envs.imagined import GLAMImaginedEnv

__all__ = ["PROTOCOLS", "GLAMImaginedEnv", "adapt_env", "make_atari_env"]
