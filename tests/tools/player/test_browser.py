"""The player as a person meets it: in Chromium, without a screen."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.support.browser import CAN_BROWSE, Tab, open_page, served
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.session import make_session

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CAN_BROWSE, reason="needs Chromium and playwright")]
NOTHING = "\N{EN DASH}"  # shown for a number that there is not


@pytest.fixture
def player(make_run):
    """A pace at which an episode lasts for 12 seconds, and nothing happens before the page is there."""
    player = Player(make_session(make_run(), seed=0), speed=5)
    player.paused = True
    yield player
    player.session.close()


@pytest.fixture
def tab(player):
    """A page that shows the first frame; it has nothing to complain about in the end."""
    with served(player) as address, open_page(address) as (page, complaints):
        tab = Tab(page)
        tab.until(tab.drawn)
        yield tab
        assert complaints == []


def test_a_person_plays_for_real_and_in_imagination(tab):
    keyboard = tab.page.keyboard
    assert (tab["env"], tab["badge"]) == ("tests.support.games:CatchBall-v0", "Real")

    # Without a key the ball falls and the paddle stays; key 1 moves it left by 8 pixels, 2 right.
    first = tab.picture()
    tab.pause(False)
    tab.run_for(4)
    tab.pause(True)
    assert int(tab["steps"]) >= 3
    assert not np.array_equal(tab.picture(), first)
    assert tab.paddle() == 24
    for key, place in (("1", 16), ("1", 8), ("2", 16)):
        keyboard.down(key)
        tab.step()
        keyboard.up(key)
        assert (tab.paddle(), tab["action"]) == (place, key)
    for number in ("reward", "predicted_reward", "termination", "value"):
        assert any(digit in tab[number] for digit in "0123456789")

    # Into imagination.
    stood, steps = tab.picture(), tab["steps"]
    keyboard.press("t")
    tab.until_text(badge="Imagined", steps="0", reward=NOTHING)
    assert np.array_equal(tab.picture("aside"), stood)
    tab.step()
    assert tab["steps"] == "1"
    before = tab.picture()
    tab.pause(False)
    keyboard.down("1")
    tab.until_text(action="1")
    keyboard.up("1")
    assert not np.array_equal(tab.picture(), before)
    keyboard.press("m")
    tab.until(lambda: tab.pressed("agent"))
    tab.run_for(3)

    # And back, by the mouse, to the real game where it stood.
    tab.pause(True)
    tab.page.click("#switch")
    tab.until_text(badge="Real", steps=steps)
    assert np.array_equal(tab.picture(), stood)


def test_pace_ends_and_the_slider(tab, player):
    assert tab["pace"] == "5 steps per second"
    tab.pause(False)
    tab.until(lambda: "now" in tab["pace"])
    started = time.monotonic()
    tab.run_for(5)
    assert time.monotonic() - started > 4 / 5 * 0.9
    tab.page.fill("#speed", "60")
    tab.until(lambda: player.speed == 60)
    tab.page.locator("#stage").focus()
    tab.until(lambda: tab["steps"] == "60" and tab.pressed("pause"))  # five balls of 12 steps
    assert tab["veil"] == "The episode is over. R or P starts another."
    assert tab.page.locator("#veil").is_visible()
    assert tab["event"].startswith("The episode ended at step 60 with a score of")
    player.speed = 5
    tab.page.keyboard.press("r")
    tab.until(lambda: 0 < int(tab["steps"]) < 60)
    assert not tab.page.locator("#veil").is_visible()


def test_a_second_tab_and_keys_that_are_not_the_games(tab, player):
    tab.pause(False)
    other = tab.page.context.browser.new_page()
    other.goto(tab.page.url)
    other.get_by_text("connected", exact=True).wait_for()
    other.locator("#stage").press("m")
    tab.until(lambda: tab.pressed("agent"))
    other.close()
    tab.page.keyboard.press("Control+KeyP")
    tab.page.keyboard.press("KeyQ")
    tab.run_for(2)
    assert not tab.pressed("pause")
    tab.page.locator("#agent").focus()
    tab.page.keyboard.press("Space")  # the button's, which has the focus
    tab.until(lambda: not tab.pressed("agent"))


def test_a_step_that_fails_is_shown(tab, player, caplog):
    player.session.step, works = None, player.session.step
    tab.page.keyboard.press("p")
    tab.until(lambda: "P tries again" in tab["veil"])
    player.session.step = works
    tab.page.keyboard.press("p")
    tab.run_for(3)
    assert "failed" in caplog.text
