"""Learning curves of runs and of CSV files in one picture, by the command."""

from __future__ import annotations

import runpy
import sys
from functools import partial

import pytest
from PIL import Image

from tests.support.made_runs import write_run
from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "plot_returns.py"


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def test_a_run_folder_and_a_csv_file_share_a_picture(monkeypatch, tmp_path):
    folder = write_run(tmp_path, "Pong", 0, [1.0], curve=[(10, 1.0), (20, 3.0)]).parent
    (tmp_path / "other.csv").write_text("5,2.0\n")
    out = tmp_path / "curve.png"
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(folder), str(tmp_path / "other.csv"), f"out={out}"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    with Image.open(out) as image:
        assert image.size == (720, 446)


def test_bad_input_is_one_line(refused, tmp_path):
    assert refused() == "error: got nothing: give run folders or CSV files, and out=FILE.png"
    assert refused(str(tmp_path), f"out={tmp_path}/a.png").endswith(
        "has no returns: give run folders or CSV files of frame, return"
    )
    (tmp_path / "a.csv").write_text("step,return\n")
    assert "a.csv is damaged" in refused(str(tmp_path / "a.csv"), f"out={tmp_path}/a.png")
