"""The browser's side of the player: one page and one websocket, for this machine only.

The page sends JSON: ``{"keys": [codes held]}``, ``{"command": name}`` or ``{"speed": steps per second}``. It receives
JSON whose ``type`` is ``hello`` (once), ``state``, ``failure`` (of a step) or ``error`` (of a message), and after each
state the pictures, if there are any, as a binary PNG. Vectors are in the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import json
import logging
import secrets
import signal
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.player.controls import CODES
from torchrl_glam.tools.player.pace import FASTEST, SLOWEST, Player, Update

_has_aiohttp = importlib.util.find_spec("aiohttp") is not None
if _has_aiohttp:
    from aiohttp import WSCloseCode, WSMsgType, web

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost", "::1")
LONGEST_MESSAGE = 4096
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data: blob:; connect-src 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def check_aiohttp() -> None:
    """Raise UsageError if the web library is not installed."""
    if not _has_aiohttp:
        raise UsageError('the player needs the package aiohttp: pip install "torchrl_glam[play]"')


def make_app(player: Player, token: str) -> web.Application:
    """Make the page at ``/?token=...`` and its websocket at ``/socket``; all tabs see and play the same session.

    Args:
        player: is run by the caller, such as :func:`serve`.
        token: a secret that the address must hold: whoever else uses this machine can reach the port.

    Raises:
        UsageError: if aiohttp is not installed.
    """
    check_aiohttp()
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    tabs: set[web.WebSocketResponse] = set()

    async def show_page(request: web.Request) -> web.Response:
        _refuse_strangers(request, token)
        return web.Response(text=page, content_type="text/html", headers=HEADERS)

    async def open_socket(request: web.Request) -> web.WebSocketResponse:
        _refuse_strangers(request, token)
        socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=LONGEST_MESSAGE)
        await socket.prepare(request)
        tabs.add(socket)
        try:
            await _attend(socket, player)
        finally:
            tabs.discard(socket)
        return socket

    async def close_sockets(_: web.Application) -> None:
        for socket in list(tabs):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the player ended")

    app = web.Application()
    app.add_routes([web.get("/", show_page), web.get("/socket", open_socket)])
    app.on_shutdown.append(close_sockets)
    return app


def _refuse_strangers(request: web.Request, token: str) -> None:
    """Refuse other websites, which a browser allows to talk to this machine, other names of it, and other users."""
    origin = request.headers.get("Origin")
    try:
        host = request.url.host
    except ValueError:  # such as Host: localhost:x
        host = None
    if host not in LOCAL_NAMES or origin not in (None, f"http://{request.host}"):
        raise web.HTTPForbidden(text="the player answers only its own page on this machine\n")
    if not secrets.compare_digest(request.query.get("token", "").encode(errors="replace"), token.encode()):
        raise web.HTTPForbidden(text="open the address that the player printed, with its token\n")


async def _attend(socket: web.WebSocketResponse, player: Player) -> None:
    """Serve one tab until it closes."""
    who = object()
    updates = player.join(who)
    telling = asyncio.create_task(_tell(socket, player, updates))
    try:
        async for message in socket:
            if answer := receive(player, who, message.data if message.type is WSMsgType.TEXT else None):
                with contextlib.suppress(ConnectionError):
                    await socket.send_str(json.dumps({"type": "error", "message": answer}))
    finally:
        player.leave(who)
        telling.cancel()


async def _tell(socket: web.WebSocketResponse, player: Player, updates: asyncio.Queue[Update]) -> None:
    """Send updates to one tab; a slow tab skips some."""
    with contextlib.suppress(ConnectionError):
        await socket.send_str(json.dumps(greeting(player)))
        while True:
            update = await updates.get()
            await socket.send_str(update.state)
            if update.pictures:
                await socket.send_bytes(update.pictures)


def greeting(player: Player) -> dict[str, Any]:
    """Return the first message to a tab."""
    session = player.session
    return {
        "type": "hello",
        "env": session.run.config.env.name,
        "run": str(session.run.folder),
        "frame": session.run.frame,
        "real": session.env is not None,
        "codes": CODES,
        "controls": session.controls.describe(),
        "pixels": "pixels" in session.run.world_model.observation_keys,
        "numbers": session.run.world_model.vector_size,
    }


def receive(player: Player, who: object, text: str | None) -> str:
    """Carry out a message; return what is wrong with it, or an empty text.

    Args:
        player: takes the orders.
        who: sent the message.
        text: JSON, ``None`` for a message that is no text.
    """
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or len(message) != 1:
        return 'send a message like {"keys": ["ArrowUp"]}, {"command": "pause"} or {"speed": 15}'
    ((kind, value),) = message.items()
    if kind == "keys" and isinstance(value, list) and all(isinstance(code, str) for code in value):
        player.hold(who, frozenset(CODES).intersection(value))
    elif kind == "command" and isinstance(value, str):
        try:
            player.order(value, who)
        except UsageError as error:
            return str(error)
    elif kind == "speed" and type(value) in (int, float) and SLOWEST <= value <= FASTEST:
        player.set_speed(value)
    else:
        return f"{kind[:20]!r} is none of keys, command, speed ({SLOWEST} to {FASTEST}), or its value is wrong"
    return ""


def play(player: Player, port: int, announce: Callable[[str], None]) -> None:
    """Call :func:`serve` until SIGINT (Ctrl-C) or SIGTERM ends it."""

    async def until_told() -> None:
        serving = asyncio.create_task(serve(player, port, announce))
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    asyncio.run(until_told())


async def serve(player: Player, port: int, announce: Callable[[str], None]) -> None:
    """Serve the page on this machine, and run the player, until cancelled.

    Args:
        player: of the session.
        port: 0 takes a free one.
        announce: called with the page's address once it is there.

    Raises:
        UsageError: if the port is taken or invalid, or aiohttp is not installed.
    """
    check_aiohttp()
    token = secrets.token_urlsafe(16)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it prints a traceback for malformed requests
    runner = web.AppRunner(make_app(player, token), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _listen(web.TCPSite(runner, HOST, port), port)
        announce(f"http://{HOST}:{runner.addresses[0][1]}/?token={token}")
        await player.run()
    finally:
        await runner.cleanup()


async def _listen(site: web.TCPSite, port: int) -> None:
    try:
        await site.start()
    except OverflowError as error:
        raise UsageError(f"port={port} is no port: give one from 1 to 65535, or 0 for any that is free") from error
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise UsageError(f"port={port} {reason}: give another one, or port=0 for any that is free") from error
