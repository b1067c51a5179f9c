"""SIGTERM and SIGINT: in order between two steps, at once where nothing is lost, never while a file is written."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from torchrl_glam.runs import stop
from torchrl_glam.runs.stop import StopNow, StopSignals


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python's handlers run between two instructions


HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


@pytest.fixture(autouse=True)
def keep_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_loop_is_asked_and_the_way_out_is_undisturbed(number):
    with StopSignals() as signals:
        assert not signals.asked
        send(number)
        assert signals.asked
    send(number)  # an impatient user: nothing more happens
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_handlers_are_put_back_where_nobody_asked():
    before = [signal.getsignal(number) for number in HANDLED]
    with StopSignals():
        assert [signal.getsignal(number) for number in HANDLED] != before
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_a_second_signal_ends_at_once():
    with StopSignals():
        send(signal.SIGTERM)
        with pytest.raises(StopNow):
            send(signal.SIGINT)


def test_where_nothing_is_lost_the_first_one_does():
    with StopSignals() as signals:
        signals.at_once = True
        with pytest.raises(StopNow):
            send(signal.SIGTERM)


def test_a_step_that_takes_too_long_is_cut(monkeypatch):
    monkeypatch.setattr(stop, "GRACE", 0.05)
    with StopSignals(), pytest.raises(StopNow):  # noqa: PT012
        send(signal.SIGTERM)
        time.sleep(30)  # on a busy machine the grace may be over before


def test_what_is_being_written_is_finished(monkeypatch):
    monkeypatch.setattr(stop, "GRACE", 0.01)
    with StopSignals() as signals:
        signals.writing = True
        for number in (signal.SIGTERM, signal.SIGINT):
            send(number)
        time.sleep(0.05)
        assert signals.asked
