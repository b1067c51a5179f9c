"""The page and its websocket, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from tests.tools.player.test_pace import CountingSession, steps_in, until
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.player import server
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import make_app, serve

SECONDS = 40.0
TOKEN = "secret"
PAGE, SOCKET = f"/?token={TOKEN}", f"/socket?token={TOKEN}"
CONTENT = (WSMsgType.TEXT, WSMsgType.BINARY)


class FakeSession(CountingSession):
    """With what a page is told at first."""

    def __init__(self):
        super().__init__()
        config = SimpleNamespace(env=SimpleNamespace(name="ALE/Pong-v5"))
        observed = SimpleNamespace(observation_keys=("pixels",), vector_size=0)
        self.run = SimpleNamespace(config=config, folder="runs/pong", frame=100_000, world_model=observed)
        self.env = None
        self.controls.describe = lambda: [("← A", "LEFT")]


@asynccontextmanager
async def serving():
    """A client of a server whose player runs."""
    player = Player(FakeSession(), speed=50)
    running = asyncio.create_task(player.run())
    try:
        async with TestClient(TestServer(make_app(player, TOKEN))) as client:
            yield client, player
    finally:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled(), running.exception()


async def receive(tab, **wanted):
    """The next JSON message with these entries."""

    async def take():
        while True:
            message = await tab.receive()
            assert message.type in CONTENT, message
            if message.type is WSMsgType.TEXT and wanted.items() <= (told := json.loads(message.data)).items():
                return told

    return await asyncio.wait_for(take(), SECONDS)


def run(scenario):
    """A coroutine that takes a client and its player, as a test."""

    def test():
        async def whole():
            async with serving() as (client, player):
                await scenario(client, player)

        asyncio.run(whole())

    return test


@run
async def test_the_page_is_one_file_that_asks_nobody(client, player):
    answer = await client.get(PAGE)
    text = await answer.text()
    assert answer.status == 200
    assert answer.content_type == "text/html"
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)(?:https?:)?//[^"')]+""", text)
    assert 'rel="icon" href="data:' in text  # or a browser asks for one


@run
async def test_a_tab_is_greeted_and_then_told(client, player):
    tab = await client.ws_connect(SOCKET)
    hello = await receive(tab)
    assert (hello["type"], hello["env"], hello["frame"], hello["real"]) == ("hello", "ALE/Pong-v5", 100_000, False)
    assert hello["controls"] == [["← A", "LEFT"]]
    assert (hello["pixels"], hello["numbers"]) == (True, 0)
    assert "ArrowUp" in hello["codes"]
    told = await receive(tab, type="state")
    assert {"mode", "steps", "score", "reward", "predicted_reward", "termination", "value", "event"} <= told.keys()
    message = await tab.receive()
    assert message.type is WSMsgType.BINARY
    picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert picture[0, 0].tolist() == [0, told["steps"], 200]


@run
async def test_what_a_tab_says_is_done(client, player):
    tab = await client.ws_connect(SOCKET)
    await tab.send_json({"keys": ["ArrowUp", "KeyQ"]})  # no key of ours, the second
    await until(lambda: player.session.told[-1:] == ["ArrowUp"])
    await tab.send_json({"speed": 7})
    await receive(tab, speed=7)
    await tab.send_json({"command": "pause"})
    await receive(tab, paused=True)
    for command in ("switch", "restart"):
        await tab.send_json({"command": command})
        await until(lambda command=command: player.session.told[-1] == command)


MALFORMED = [
    "",
    "no json",
    "[" * 3000,
    "[]",
    "null",
    "{}",
    '{"keys": [], "speed": 1}',
    '{"keys": "ArrowUp"}',
    '{"keys": [1, null]}',
    '{"keys": null}',
    '{"command": "jump"}',
    '{"command": ["pause"]}',
    '{"command": 1}',
    '{"speed": 0}',
    '{"speed": 61}',
    '{"speed": NaN}',
    '{"speed": 1e999}',
    '{"speed": %s}' % ("9" * 500),
    '{"speed": true}',
    '{"speed": "15"}',
    '{"volume": 11}',
]


@pytest.mark.parametrize("text", MALFORMED)
def test_what_means_nothing_is_answered_in_a_line(text):
    async def scenario(client, player):
        tab = await client.ws_connect(SOCKET)
        await tab.send_str(text)
        told = await receive(tab, type="error")
        assert told["message"]
        assert "\n" not in told["message"]
        await receive(tab, type="state")  # and all goes on
        assert player.speed == 50
        assert not player.paused

    run(scenario)()


@run
async def test_bytes_are_no_message(client, player):
    tab = await client.ws_connect(SOCKET)
    await tab.send_bytes(b"\x00\xff")
    await receive(tab, type="error")
    await receive(tab, type="state")


@run
async def test_too_long_a_message_closes_its_tab_alone(client, player):
    tab, other = await client.ws_connect(SOCKET), await client.ws_connect(SOCKET)
    await tab.send_str(json.dumps({"keys": ["ArrowUp"] * 10_000}))
    while (message := await asyncio.wait_for(tab.receive(), SECONDS)).type in CONTENT:
        pass
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)
    await receive(other, type="state")


@run
async def test_two_tabs_play_the_same_game(client, player):
    tabs = [await client.ws_connect(SOCKET) for _ in range(2)]
    await tabs[0].send_json({"keys": ["ArrowUp"]})
    await tabs[1].send_json({"keys": ["Space"]})
    await until(lambda: player.session.told[-1:] == ["ArrowUp Space"])
    await tabs[1].send_json({"command": "pause"})
    states = [await receive(tab, type="state", paused=True) for tab in tabs]
    assert states[0]["steps"] == states[1]["steps"]


@run
async def test_a_tab_that_goes_lets_go_of_its_keys(client, player):
    tabs = [await client.ws_connect(SOCKET) for _ in range(2)]
    await tabs[1].send_json({"keys": ["Space"]})
    await until(lambda: player.session.told[-1:] == ["Space"])
    tabs[1]._response.connection.transport.abort()  # no goodbye
    await until(lambda: player.session.told[-1] == "")
    await receive(tabs[0], type="state")
    await tabs[0].close()
    await until(lambda: not player._listeners)
    assert await steps_in(player.session, 0.1) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 101),
        ({"Origin": "same"}, 101),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another server of this machine
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::"}, 403),
        ({"Host": "evil.example:8000"}, 403),  # a name that somebody lets lead here
        ({"Host": "[::"}, 403),
        ({"Host": "localhost:x"}, 403),
        ({"Host": "localhost:99999999"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 101),
    ],
)
def test_other_websites_are_refused(headers, status):
    async def scenario(client, player):
        mine = f"http://{client.host}:{client.port}"
        sent = {name: mine if value == "same" else value for name, value in headers.items()}
        if status == 101:
            await receive(await client.ws_connect(SOCKET, headers=sent), type="hello")
            return
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(SOCKET, headers=sent)
        assert refused.value.status == status
        assert (await client.get(PAGE, headers=sent)).status == status

    run(scenario)()


@pytest.mark.parametrize("token", ["", "?token=", "?token=Secret", "?token=%ff", "?token=é", "?Token=secret"])
def test_who_does_not_know_the_token_is_refused(token):
    async def scenario(client, player):
        answer = await client.get(f"/{token}")
        assert (answer.status, await answer.text()) == (
            403,
            "open the address that the player printed, with its token\n",
        )
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(f"/socket{token}")
        assert refused.value.status == 403

    run(scenario)()


@run
async def test_a_tab_that_sends_a_thousand_commands_delays_no_other(client, player):
    flood, other = await client.ws_connect(SOCKET), await client.ws_connect(SOCKET)
    await receive(other, type="state")
    await until(lambda: player.session.told)
    player.session.may_step.clear()  # as slow as can be
    for _ in range(1000):
        await flood.send_json({"command": "step"})
    refused = await receive(flood, type="error")
    assert refused["message"] == "4 commands wait already: step was dropped, send it again later"
    await other.send_json({"command": "restart"})
    await until(lambda: "restart" in [order for waiting in player._orders.values() for order in waiting])
    before = len(player.session.told)
    player.session.may_step.set()
    await until(lambda: "restart" in player.session.told)
    assert player.session.told.index("restart") <= before + 3
    await until(lambda: not player._orders)
    assert len(player.session.told) <= before + 8


def serve_on(port):
    """Try to."""
    asyncio.run(serve(Player(FakeSession()), port, pytest.fail))


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^port={port} is taken: give another one, or port=0"):
            serve_on(port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(port):
    with pytest.raises(UsageError, match=rf"port={port} is no port: give one from 1 to 65535"):
        serve_on(port)


def test_serving_ends_with_open_tabs():
    async def scenario():
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        player = Player(FakeSession())
        serving = asyncio.create_task(serve(player, 0, ready.set_result))
        address = await asyncio.wait_for(ready, SECONDS)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=\S{20,}", address)
        async with TestClient(TestServer(make_app(player, TOKEN))) as other:  # any client will do
            tab = await other.session.ws_connect(address.replace("?", "socket?"))
            await receive(tab, type="state")
            serving.cancel()
            while (message := await asyncio.wait_for(tab.receive(), SECONDS)).type in CONTENT:
                pass
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
            await asyncio.wait({serving}, timeout=SECONDS)
            assert serving.cancelled()

    asyncio.run(scenario())


def test_without_the_web_library(monkeypatch):
    monkeypatch.setattr(server, "_has_aiohttp", False)
    with pytest.raises(UsageError, match=r'pip install "torchrl_glam\[play\]"'):
        make_app(Player(FakeSession()), TOKEN)
