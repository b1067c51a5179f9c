"""The example runs, with either planner."""

from __future__ import annotations

import runpy
import sys

import pytest

from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "planning.py"


@pytest.mark.parametrize("planner", ["cem", "mppi"])
def test_planning(monkeypatch, capsys, planner):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--planner", planner, "--updates", "2", "--steps", "2"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    words = capsys.readouterr().out.split()
    assert words[:3] == ["mean", "reward:", "random"]
    assert words[4] == planner
    assert all(-16.3 < float(number.strip(",")) <= 0 for number in (words[3], words[5])), (
        "the bounds of Pendulum's reward"
    )
