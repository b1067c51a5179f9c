"""The script that compares offline runs: the files that it writes, and the input that it refuses."""

from __future__ import annotations

import runpy
import sys
from functools import partial

import pytest

from tests.support.offline_results import colours, hand_made, result, scaling_results, write
from tests.support.paths import EXAMPLES

EXAMPLE = EXAMPLES / "compare_offline.py"


@pytest.fixture
def compare(monkeypatch, capsys):
    """A function that runs the script here; returns its lines."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, options)])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def test_tables_pictures_and_what_is_left_out(compare, tmp_path):
    write(tmp_path / "runs" / "compared", *hand_made())
    write(tmp_path / "runs" / "scaling", *({**content, "total_updates": 500} for content in scaling_results()))
    foreign = tmp_path / "runs" / "pong" / "result.json"
    foreign.parent.mkdir()
    foreign.write_text('{"returns": [1]}')
    out = tmp_path / "new" / "out"
    lines = compare(f"runs={tmp_path / 'runs'}", f"out={out}")
    assert lines == [
        f"{foreign} is left out: not the result of an offline run, it has no dataset",
        f"18 runs: {out}/comparison.md, {out}/comparison.csv",
        f"{out}/targets.png: 20,000 updates, all of the data (2 other budgets: in the tables)",
        f"{out}/scaling.png: MambaDM on hopper/medium-v0, 500 updates",
    ]
    text = (out / "comparison.md").read_text()
    assert (
        "| hopper/medium-v0 | 15.0 (1 seed: too few) | 25.0 ± 7.1 (2 seeds: too few) | 60.0 ± 10.0 (3 seeds) |" in text
    )
    sections = [line for line in text.splitlines() if line.startswith("#")]
    assert sections == [
        "# Offline runs",
        "## 20,000 updates, all of the data",
        "## 500 updates, all of the data",
        "## 500 updates, 50 % of the data",
        "## Scaling: MambaDM on hopper/medium-v0, 500 updates",
        "## Beside the published scores",
    ]
    assert len((out / "comparison.csv").read_text().splitlines()) == 1 + 3 + 4
    assert all(len(colours(out / name)) > 10 for name in ("targets.png", "scaling.png"))


def test_without_scaling_runs_there_is_a_line(compare, tmp_path):
    write(tmp_path / "runs", result())
    lines = compare(f"runs={tmp_path / 'runs'}", f"out={tmp_path}")
    assert lines[-1] == "no scaling.png: there are no runs on several fractions of the data"
    assert not (tmp_path / "scaling.png").exists()


def test_without_matplotlib_there_are_tables_and_a_line(compare, tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.presentation.has_matplotlib", False)
    write(tmp_path / "runs", result())
    lines = compare(f"runs={tmp_path / 'runs'}", f"out={tmp_path}")
    assert lines[-1] == 'no pictures: matplotlib is missing, pip install "torchrl_glam[report]"'
    assert (tmp_path / "comparison.md").exists()
    assert not (tmp_path / "targets.png").exists()


def test_bad_input_is_one_line(refused, tmp_path):
    assert refused().startswith("error: give runs=...")
    assert "missing is not a folder" in refused(f"runs={tmp_path / 'missing'}", f"out={tmp_path}")
    assert "has no result of an offline run" in refused(f"runs={tmp_path}", f"out={tmp_path}")
    write(tmp_path / "runs", result())
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot be written" in refused(f"runs={tmp_path / 'runs'}", f"out={file}")
    line = refused(f"runs={tmp_path / 'runs'}", f"out={tmp_path}", "model=gpt")
    assert line == "error: model=gpt: choose one of bc, dt, dmamba, mambadm"
