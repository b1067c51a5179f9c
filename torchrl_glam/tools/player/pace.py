"""A session that steps by itself at a steady pace, with the keys held at that time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from torchrl_glam.errors import UsageError, describe_error
from torchrl_glam.tools.player.session import Moment, Session

SLOWEST, FASTEST = 1, 60
AFTER_AN_END = 1.5
"""Seconds before the agent continues after an end; a person decides when."""
COMMANDS = ("switch", "restart", "step", "pause", "agent")
TICK, SHOW = "tick", "show"  # internal orders: it is time for a step; tell the listeners
MOST_WAITING = 4  # commands of one listener

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """A message to all listeners: the state as JSON and, unless it is a failure, the two pictures, if any, as a PNG."""

    state: str
    pictures: bytes = b""


class Player:
    """A session stepped at a steady pace as long as somebody listens; all listeners get every update.

    All torch and emulator work happens in one thread of its own, so that the event loop stays free.

    Args:
        session: the game.
        speed: steps per second.
    """

    def __init__(self, session: Session, speed: float = 15.0) -> None:
        self.session, self.speed = session, speed
        self.paused = self.agent_plays = False
        self._held: dict[Hashable, frozenset[str]] = {}
        self._tapped: set[str] = set()  # pressed since the last step, even if released again
        self._listeners: dict[Hashable, asyncio.Queue[Update]] = {}
        self._orders: dict[Hashable, deque[str]] = {}  # waiting, by who gave them: the first one's turn is next
        self._ordered = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="player")
        self._at_an_end = False
        self._ticks: deque[float] = deque(maxlen=16)

    def join(self, who: Hashable) -> asyncio.Queue[Update]:
        """Listen. The queue holds the newest update; older ones that nobody took are dropped."""
        self._listeners[who] = asyncio.Queue(maxsize=1)
        self._put(SHOW, SHOW, most=1)
        return self._listeners[who]

    def leave(self, who: Hashable) -> None:
        """Stop listening, and release all keys; orders that wait are dropped."""
        self._listeners.pop(who, None)
        self._held.pop(who, None)
        self._orders.pop(who, None)

    def hold(self, who: Hashable, keys: frozenset[str]) -> None:
        """Set the keys that ``who`` holds from now on."""
        if self._playing:
            self._tapped |= keys - self._held.get(who, frozenset())
        self._held[who] = keys

    def order(self, command: str, who: Hashable = None) -> None:
        """Carry out one of ``COMMANDS`` as soon as the current step is done; who gives several takes turns with others.

        Raises:
            UsageError: for another command, or if ``MOST_WAITING`` of ``who`` wait already.
        """
        if command not in COMMANDS:
            raise UsageError(f"there is no command {command[:20]!r}: use one of {', '.join(COMMANDS)}")
        if not self._put(command, who, most=MOST_WAITING):
            raise UsageError(f"{MOST_WAITING} commands wait already: {command} was dropped, send it again later")

    def _put(self, order: str, who: Hashable, most: int) -> bool:
        """Let an order wait for its turn; return False if ``most`` of ``who`` do so already."""
        waiting = self._orders.setdefault(who, deque())
        if len(waiting) == most:
            return False
        waiting.append(order)
        self._ordered.set()
        return True

    def set_speed(self, speed: float) -> None:
        """Set the steps per second."""
        self.speed = speed
        self._ticks.clear()
        self._put(SHOW, SHOW, most=1)

    async def run(self) -> None:
        """Play until cancelled; then end the worker's thread."""
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            while True:
                order = await self._next_order(due - clock())
                if order == TICK and self._playing:
                    self._ticks.append(clock())
                    late = clock() - due > 1 / self.speed  # lost time is not made up for
                    await self._carry_out(TICK)
                    rests = self._at_an_end and not self.paused
                    due = (clock() if late else due) + (AFTER_AN_END if rests else 1 / self.speed)
                elif order != TICK:
                    self._obey(order)
                    await self._carry_out(order)
        finally:
            self._worker.shutdown()

    @property
    def _playing(self) -> bool:
        return bool(self._listeners) and not self.paused

    async def _next_order(self, seconds: float) -> str:
        """Return the next order, or ``TICK`` after so many seconds."""
        if not self._orders:
            self._ordered.clear()
            try:
                await asyncio.wait_for(self._ordered.wait(), max(seconds, 0.0) if self._playing else None)
            except asyncio.TimeoutError:  # not the builtin before Python 3.11
                return TICK
        who = next(iter(self._orders), None)
        waiting = self._orders.pop(who, None)
        if not waiting:  # who gave the order has left meanwhile
            return TICK
        order = waiting.popleft()
        if waiting:
            self._orders[who] = waiting  # behind the others
        return order

    def _obey(self, order: str) -> None:
        """Apply an order to the pace."""
        if order != SHOW:
            self._tapped.clear()
            self._ticks.clear()
        if order == "agent":
            self.agent_plays = not self.agent_plays
        if order == "step":
            self.paused = True
        elif self.paused and self._at_an_end and order != SHOW:
            self.paused = False
        elif order == "pause":
            self.paused = not self.paused

    async def _carry_out(self, order: str) -> None:
        """Apply an order to the session, and tell the listeners."""
        loop = asyncio.get_running_loop()
        held = self._tapped.union(*self._held.values())
        if order in ("step", TICK):
            self._tapped.clear()
        try:
            moment, pictures = await loop.run_in_executor(self._worker, self._do, order, held)
        except Exception as error:  # such as one of the user's environment: the page stays alive and says so
            log.exception("the player's %s failed", order)
            self.paused = True
            self._tell(Update(json.dumps({"type": "failure", "message": describe_error(error)})))
            return
        self._at_an_end = moment.ended
        if moment.ended and order in (TICK, "switch") and not self.agent_plays:
            self.paused = True
        self._tell(Update(self._state(moment), pictures))

    def _do(self, order: str, held: set[str]) -> tuple[Moment, bytes]:
        """Step, switch or restart the session, and draw it; in the worker's thread."""
        if order in ("step", TICK):
            self.session.step(None if self.agent_plays else self.session.controls.action(held))
        elif order == "switch":
            self.session.switch()
        elif order == "restart":
            self.session.restart()
        moment = self.session.observe()
        return moment, encode_pictures(moment)

    def _state(self, moment: Moment) -> str:
        shown = {name: value for name, value in vars(moment).items() if name not in ("picture", "aside")}
        spans = self._ticks[-1] - self._ticks[0] if len(self._ticks) > 1 else 0.0
        pace = (len(self._ticks) - 1) / spans if spans else None
        shown |= {"agent_plays": self.agent_plays, "paused": self.paused, "speed": self.speed, "pace": pace}
        has = {"has_picture": moment.picture is not None, "has_aside": moment.aside is not None}
        return json.dumps({"type": "state", **shown, **has})

    def _tell(self, update: Update) -> None:
        for queue in self._listeners.values():
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(update)


def encode_pictures(moment: Moment) -> bytes:
    """Encode the picture, and the one aside (black if there is none) on its right, as PNG; empty without a picture."""
    if moment.picture is None:
        return b""
    aside = np.zeros_like(moment.picture) if moment.aside is None else moment.aside
    both = cv2.cvtColor(np.concatenate([moment.picture, aside], 1), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", both)[1].tobytes()
