"""SIGTERM, SIGINT, SIGHUP: in order between two steps, at once where nothing is lost, never while a file is written."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from tensordict import TensorDict
from torch import nn

from torchrl_glam.runs import stop
from torchrl_glam.runs.stop import StopNow, StopSignals, was_stopped


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # Python's handlers run between two instructions


HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)


@pytest.fixture(autouse=True)
def keep_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


def test_nohup_keeps_its_meaning():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as signals:
        send(signal.SIGHUP)
        assert not signals.asked
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("grace", [0.05, 30.0])
def test_without_posix_signals_a_run_is_asked_too_and_a_long_step_cut(grace, monkeypatch):
    for name in ("HANG_UP", "ALARM", "REQUEUE"):
        monkeypatch.setattr(stop, name, None)
    for name in ("SIGALRM", "SIGHUP", "SIGUSR2", "setitimer", "ITIMER_REAL"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setattr(stop, "GRACE", grace)
    with StopSignals() as signals, pytest.raises(StopNow):  # noqa: PT012
        send(signal.SIGTERM)
        assert signals.asked
        if grace > 1:
            send(signal.SIGINT)  # a second one
        for _ in range(500):
            time.sleep(0.01)


def test_an_end_that_other_code_turns_into_its_own_error_is_an_end():
    """As tensordict (0.14.3) does while ``to_module`` puts back what it replaced."""
    layer = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="boolean value") as turned, TensorDict.from_module(layer).to_module(layer):
        raise StopNow
    assert was_stopped(turned.value)
    renamed = KeyError("a")
    renamed.__cause__ = turned.value
    assert was_stopped(renamed)
    assert not was_stopped(RuntimeError("of its own"))
    assert not was_stopped(None)
