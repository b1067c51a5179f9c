"""SIGTERM and SIGINT (Ctrl-C): a run ends between two steps, or within seconds if a step takes longer."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

GRACE = 3.0  # seconds that a step may still take


class StopNow(BaseException):
    """Raised wherever the program is. Not an ``Exception``, which somebody's code may catch."""


class StopSignals:
    """While entered, SIGTERM and SIGINT set :attr:`asked`, for the loop to look at.

    If the loop has not ended ``GRACE`` seconds later, or at a second signal, or where :attr:`at_once` is set,
    :class:`StopNow` is raised; never while :attr:`writing` is. Outside the main thread nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = self.at_once = self.writing = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            handlers = {signal.SIGTERM: self._ask, signal.SIGINT: self._ask, signal.SIGALRM: self._raise}
            self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self.asked else handler)  # asked again, it still ends in order
        self._previous = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self.at_once:
            self._raise(number, frame)
        signal.setitimer(signal.ITIMER_REAL, GRACE, 1.0)  # again, for what a destructor raises is lost

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self.writing:  # else the loop ends as soon as it is written
            raise StopNow
