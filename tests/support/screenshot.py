"""Take the documentation's picture of the player: the agent plays for real, then on inside the imagination.

python -m tests.support.screenshot runs/... docs/play.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.browser import Tab, open_page, served
from torchrl_glam.runs.loading import load_run
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.session import make_session

SECONDS = 5.5  # of each


def take(run_dir: str, out: Path) -> None:
    """Write the picture: of a moment of imagination, with the real steps before it in the charts."""
    session = make_session(load_run(run_dir, trust=True))
    with served(Player(session, speed=16)) as address, open_page(address) as (page, _):
        tab = Tab(page)
        tab.until(tab.drawn)
        page.keyboard.press("m")
        page.wait_for_timeout(1000 * SECONDS)
        page.keyboard.press("t")
        tab.until(lambda: tab["badge"] == "Imagined")
        page.wait_for_timeout(1000 * SECONDS)
        page.screenshot(path=out, clip={"x": 0, "y": 0, "width": 1200, "height": 750})
    session.close()


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
