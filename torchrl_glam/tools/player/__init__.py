"""The player: a person plays the real game and its imagination in the browser.

:mod:`session` is the game, :mod:`pace` steps it, :mod:`server` is the browser's page.
"""

from __future__ import annotations

from torchrl_glam.tools.player.controls import Controls
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import check_aiohttp, make_app, play, serve
from torchrl_glam.tools.player.session import Moment, Session, make_session

__all__ = [
    "Controls",
    "Moment",
    "Player",
    "Session",
    "check_aiohttp",
    "make_app",
    "make_session",
    "play",
    "serve",
]
