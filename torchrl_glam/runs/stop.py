"""SIGTERM, SIGINT (Ctrl-C), SIGHUP: a run ends between two steps, or within seconds if a step takes longer."""

from __future__ import annotations

import os
import signal
import threading
from _thread import interrupt_main
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

GRACE = 3.0  # seconds that a step may still take
HANG_UP, ALARM, REQUEUE = (getattr(signal, name, None) for name in ("SIGHUP", "SIGALRM", "SIGUSR2"))
LOOK = 0.5  # seconds between two looks at a file


class StopNow(BaseException):
    """An end raised wherever the program is. Not an ``Exception``, which a user's code may catch."""


def was_stopped(error: BaseException | None) -> bool:
    """Return True if an error is :class:`StopNow`, or was raised by code that it went through."""
    while error is not None:
        if isinstance(error, StopNow):
            return True
        error = error.__cause__ or error.__context__
    return False


class StopSignals:
    """A request to stop: while entered, SIGTERM, SIGINT and SIGHUP set :attr:`asked`, which the loop reads.

    If the loop has not ended ``GRACE`` seconds later, or at a second signal, or where :attr:`at_once` is set,
    :class:`StopNow` is raised; never while :attr:`writing` is set. Outside the main thread nothing is changed.

    SIGHUP, which a terminal sends when it closes, stays ignored where it was, as ``nohup`` asks. Windows lacks most of
    these signals, and the timer.

    SIGUSR2 is taken likewise where it has a handler already. That is submitit's, which puts a job that runs out of
    time back into the queue. :meth:`pass_on` calls it once the run has saved itself.

    Attributes:
        file: of a study whose runs have processes of their own; while it exists, they are to end.
    """

    file: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self.asked = self.at_once = self.writing = False
        self._previous: dict[int, Any] = {}
        self._left = threading.Event()
        self._requeue: Any = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            handlers: dict[int, Any] = {signal.SIGTERM: self._ask, signal.SIGINT: self._ask}
            if HANG_UP is not None and signal.getsignal(HANG_UP) not in (signal.SIG_IGN, None):
                handlers[HANG_UP] = self._ask
            if REQUEUE is not None and callable(signal.getsignal(REQUEUE)):
                handlers[REQUEUE] = self._ask
            if ALARM is not None:
                handlers[ALARM] = self._raise
            self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
            if self.file is not None:
                threading.Thread(target=self._watch, args=[self.file], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._previous and ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self.asked else handler)  # a further signal changes nothing
        self._previous = {}

    def pass_on(self) -> None:
        """Let submitit put the job back into the queue, if that was asked for, which ends the process."""
        if self._requeue is not None:
            self._requeue(REQUEUE, None)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if number == REQUEUE:
            self._requeue = self._previous[number]
        if again or self.at_once:
            self._raise(number, frame)
        if ALARM is not None:
            signal.setitimer(signal.ITIMER_REAL, GRACE, 1.0)  # repeated, because an error in a destructor is lost
        else:
            threading.Thread(target=self._remind, daemon=True).start()

    def _remind(self) -> None:
        """Ask once more after the grace, where there is no timer."""
        while not self._left.wait(GRACE):
            interrupt_main()  # as if by SIGINT

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if not self.writing:  # else the loop ends as soon as that is done
            raise StopNow

    def _watch(self, file: Path) -> None:
        """Send SIGTERM when the file appears, unless a signal came: a terminal's Ctrl-C may reach the workers too."""
        while not self._left.wait(LOOK):
            if file.exists():
                if not self.asked:
                    os.kill(os.getpid(), signal.SIGTERM)
                return
