"""The pace, the keys and the orders, of a session that only counts."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager

import cv2
import numpy as np
import pytest

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.player import pace
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.session import Moment

SECONDS = 40.0  # to wait for what must come, on however busy a machine


class Controls:
    def action(self, held):
        return sorted(held)


class CountingSession:
    """Writes down what it is told; the green of its picture is the number of its steps."""

    def __init__(self, ends=()):
        self.controls, self.told, self.steps, self.ends = Controls(), [], 0, ends
        self.threads = set()
        self.may_step = threading.Event()
        self.may_step.set()

    def step(self, action):
        self.may_step.wait(SECONDS)
        self.threads.add(threading.current_thread().name)
        self.steps += 1
        self.told.append("agent" if action is None else " ".join(action))

    def switch(self):
        self.told.append("switch")

    def restart(self):
        self.told.append("restart")

    def observe(self):
        picture = np.full((4, 6, 3), (200, self.steps % 256, 0), np.uint8)
        ended = self.steps in self.ends and self.told[-1] not in ("switch", "restart")
        shown = {"picture": picture, "aside": None, "value": None}
        return Moment(event="", steps=self.steps, score=0.5, ended=ended, mode="real", **shown)


@asynccontextmanager
async def playing(session, speed=60.0):
    """A player at work, with one listener."""
    player = Player(session, speed)
    updates = player.join("me")
    running = asyncio.create_task(player.run())
    try:
        yield player, updates
    finally:
        session.may_step.set()
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()


async def until(condition):
    """Wait for it."""

    async def poll():
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), SECONDS)


async def state(updates, **wanted):
    """The next state with these entries."""

    async def take():
        while not wanted.items() <= (told := json.loads((await updates.get()).state)).items():
            pass
        return told

    return await asyncio.wait_for(take(), SECONDS)


async def steps_in(session, seconds):
    """How many steps there are in this time, but for one that may be under way."""
    await asyncio.sleep(0.03)
    before = session.steps
    await asyncio.sleep(seconds)
    return session.steps - before


def run(scenario):
    """A coroutine, as a test."""

    def test():
        asyncio.run(scenario())

    test.__doc__ = scenario.__doc__
    return test


@run
async def test_a_steady_pace():
    session = CountingSession()
    async with playing(session, speed=40) as (player, updates):
        await until(lambda: session.steps >= 1)
        started, before = time.monotonic(), session.steps
        await until(lambda: session.steps >= before + 20)
        assert time.monotonic() - started > 18 / 40
        assert 0 < (await state(updates))["pace"] < 45
        player.set_speed(10)
        await state(updates, speed=10)
        slowed, before = time.monotonic(), session.steps
        await until(lambda: session.steps >= before + 5)
        assert time.monotonic() - slowed > 0.9 * 3 / 10
    assert len(session.threads) == 1
    assert threading.current_thread().name not in session.threads


@run
async def test_lost_time_is_not_made_up_for():
    session = CountingSession()
    async with playing(session, speed=20):
        await until(lambda: session.steps >= 1)
        session.may_step.clear()
        await asyncio.sleep(1.0)
        freed, before = time.monotonic(), session.steps
        session.may_step.set()
        await asyncio.sleep(0.3)
        assert session.steps - before <= 20 * (time.monotonic() - freed) + 4  # not the 20 that were due as well


@run
async def test_keys_held_tapped_and_let_go():
    session = CountingSession()
    async with playing(session) as (player, _):
        player.hold("me", frozenset({"b"}))
        player.hold("other", frozenset({"a"}))
        await until(lambda: "a b" in session.told)
        player.leave("other")
        await until(lambda: session.told[-1] == "b")
        player.hold("me", frozenset({"b", "tap"}))  # pressed and let go between two steps
        player.hold("me", frozenset())
        await until(lambda: session.told[-1:] == [""])
    assert session.told.count("tap") == 1


@run
async def test_the_agent_plays():
    session = CountingSession()
    async with playing(session) as (player, updates):
        player.order("agent")
        await state(updates, agent_plays=True)
        await until(lambda: session.told[-1:] == ["agent"])
        player.order("agent")
        await until(lambda: session.told[-1:] == [""])


@run
async def test_pause_and_single_steps():
    session = CountingSession()
    async with playing(session) as (player, updates):
        player.order("pause")
        await state(updates, paused=True)
        assert await steps_in(session, 0.1) == 0
        player.hold("me", frozenset({"x"}))
        before = session.steps
        player.order("step")
        await state(updates, paused=True, steps=before + 1)
        assert session.told[-1] == "x"
        player.order("switch")
        player.order("restart")
        await until(lambda: session.told[-2:] == ["switch", "restart"])
        assert await steps_in(session, 0.1) == 0
        player.order("pause")
        await until(lambda: session.steps > before + 5)


@pytest.mark.parametrize("order", ["pause", "restart", "switch"])
def test_an_end_waits_for_the_person(order):
    async def scenario():
        session = CountingSession(ends=(3,))
        async with playing(session) as (player, updates):
            await state(updates, ended=True, paused=True)
            assert await steps_in(session, 0.1) == 0
            assert session.steps == 3
            player.order(order)
            await until(lambda: session.steps > 5)

    asyncio.run(scenario())


def test_an_end_does_not_wait_for_the_agent(monkeypatch):
    monkeypatch.setattr(pace, "AFTER_AN_END", 0.3)

    async def scenario():
        session = CountingSession(ends=(3,))
        async with playing(session) as (player, updates):
            before_the_end = time.monotonic()
            player.order("agent")
            await state(updates, ended=True, paused=False)
            await until(lambda: session.steps > 3)
            assert time.monotonic() - before_the_end > 0.3

    asyncio.run(scenario())


@run
async def test_nobody_listens_nobody_plays():
    session = CountingSession()
    async with playing(session) as (player, _):
        await until(lambda: session.steps > 2)
        player.leave("me")
        assert await steps_in(session, 0.1) == 0
        player.join("another")
        before = session.steps
        await until(lambda: session.steps > before)


@run
async def test_who_listens_slowly_gets_the_newest_alone():
    session = CountingSession()
    async with playing(session) as (_, updates):
        await until(lambda: session.steps > 10)
        update = updates.get_nowait()
        assert updates.empty()
        assert json.loads(update.state)["steps"] >= 9
        picture = cv2.imdecode(np.frombuffer(update.pictures, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert picture.shape == (4, 12, 3)
        assert (picture[:, :6] == (200, json.loads(update.state)["steps"], 0)).all()
        assert not picture[:, 6:].any()  # nothing aside


def test_a_step_that_fails_is_told_and_the_player_lives(caplog):
    async def scenario():
        session = CountingSession()
        async with playing(session) as (player, updates):
            await until(lambda: session.steps > 2)
            session.step, working = None, session.step  # what somebody's environment may do
            told = await state(updates, type="failure")
            assert "'NoneType' object is not callable" in told["message"]
            assert player.paused
            session.step = working
            player.order("pause")
            before = session.steps
            await until(lambda: session.steps > before)

    asyncio.run(scenario())
    assert "the player's tick failed" in caplog.text


def test_an_order_that_does_not_exist():
    with pytest.raises(UsageError, match="no command 'jump': use one of switch, restart, step, pause, agent"):
        Player(CountingSession()).order("jump")
