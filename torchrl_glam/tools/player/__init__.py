"""A person plays, for real and inside the imagination: :mod:`session` is the game, :mod:`server` the browser's page."""

from __future__ import annotations

from torchrl_glam.tools.player.controls import Controls
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import check_aiohttp, make_app, play, serve
from torchrl_glam.tools.player.session import Moment, Session, make_session
from torchrl_glam.tools.player.worlds import ImaginedWorld, Outcome, RealWorld

__all__ = [
    "Controls",
    "ImaginedWorld",
    "Moment",
    "Outcome",
    "Player",
    "RealWorld",
    "Session",
    "check_aiohttp",
    "make_app",
    "make_session",
    "play",
    "serve",
]
