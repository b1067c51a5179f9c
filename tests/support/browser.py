"""The player's page in a headless Chromium, through Playwright."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import serve

_has_playwright = importlib.util.find_spec("playwright") is not None
if _has_playwright:
    from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 40  # to wait for what must come, on however busy a machine
CAN_BROWSE = _has_playwright and CHROMIUM is not None
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_page(address: str) -> Iterator[tuple[Page, list[str]]]:
    """A page of 1200x800 at ``address``, and whatever its console has to complain about."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda line: line.type in ("error", "warning") and complaints.append(line.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page.on("response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.url}: {answer.status}"))
        page.goto(address)
        try:
            yield page, complaints
        finally:
            browser.close()


@contextmanager
def served(player: Player) -> Iterator[str]:
    """The address of the page, served from a thread."""
    ready, address = threading.Event(), []
    loop = asyncio.new_event_loop()

    def announce(url: str) -> None:
        address.append(url)
        ready.set()

    async def work() -> None:
        await asyncio.wait({serving})

    serving = loop.create_task(serve(player, 0, announce))
    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(SECONDS)
        loop.close()
    assert serving.cancelled()


class Tab:
    """The page, as one looks at it."""

    def __init__(self, page):
        self.page = page

    def __getitem__(self, name):
        """The text of the element of that id."""
        return self.page.locator(f"#{name}").text_content()

    def until(self, condition):
        """Wait for it. (The page's own policy forbids Playwright's ``wait_for_function``.)"""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, "it never came"
            self.page.wait_for_timeout(10)

    def until_text(self, **wanted):
        self.until(lambda: all(self[name] == text for name, text in wanted.items()) and self.drawn())

    def drawn(self):
        """Whether the picture of the last state is there."""
        told, pictures = self.counts()
        return told > 0 and told == pictures

    def counts(self):
        """How many states the page was told, and how many pictures it has drawn."""
        return self.page.evaluate("['states', 'pictures'].map((name) => Number(document.body.dataset[name] ?? 0))")

    def pressed(self, name):
        return self.page.get_attribute(f"#{name}", "aria-pressed") == "true"

    def picture(self, name="picture"):
        """What is drawn, [64 64 3]."""
        url = self.page.evaluate("name => document.getElementById(name).toDataURL()", name)
        png = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        picture = cv2.imdecode(png, cv2.IMREAD_COLOR)
        assert picture.shape == (64, 64, 3)
        return picture

    def paddle(self):
        """The left edge of CatchBall's paddle."""
        return int(self.picture()[62].any(-1).argmax())

    def run_for(self, states):
        """Wait until the page was told so many more."""
        before, _ = self.counts()
        self.until(lambda: self.counts()[0] >= before + states)

    def step(self):
        """Press N, and wait for the picture."""
        before = int(self["steps"])
        self.page.keyboard.press("n")
        self.until(lambda: int(self["steps"]) == before + 1 and self.drawn())

    def pause(self, paused):
        """Press P, and wait until that is done."""
        self.page.keyboard.press("p")
        self.until(lambda: self.pressed("pause") == paused and self.drawn())
