"""Imagination by horizon and by context, as table, picture and CSV."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import pytest

from tests.support.benchmarking import CPU, TINY, load, rows_of, times
from tests.support.paths import EXAMPLES
from torchrl_glam.tools.benchmarks import scaling
from torchrl_glam.tools.benchmarks.options import Variant
from torchrl_glam.tools.benchmarks.scaling import Point, measure_scaling, scaling_table

EXAMPLE = EXAMPLES / "benchmark.py"
POINTS = [Point(Variant.sliding, 8, 16, times(4.0)), Point(Variant.eager, 8, 16, times(1.0))]


def test_scaling_has_its_ratio_too():
    rows = rows_of(scaling_table(POINTS))
    assert rows["imagination"] == ["sliding", "eager", "sliding / eager", "repeats"]
    assert rows["context 8, horizon 16"] == ["4 s", "1 s", "4x", "5, 5"]
    assert rows_of(scaling_table(POINTS[1:]))["context 8, horizon 16"] == ["1 s", "-", "5"]


def test_scaling_draws_a_picture_and_keeps_its_numbers(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "HORIZONS", (2, 4))
    monkeypatch.setattr(scaling, "CONTEXTS", (4, 8))
    monkeypatch.chdir(tmp_path)
    options = [*TINY, "variants=[sliding,eager]", "report=scaling", "picture=scaling.png", "out=scaling.md"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert Path("scaling.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(Path("scaling.csv").read_text().splitlines()))
    places = {("8", "2"), ("8", "4"), ("4", "4")}  # debug: context 8, horizon 4
    assert {(row["variant"], row["context"], row["horizon"]) for row in rows} == {
        (variant, *place) for variant in ("sliding", "eager") for place in places
    }
    assert "![" in Path("scaling.md").read_text()


def test_scaling_gives_a_transformer_room_for_every_point(monkeypatch):
    monkeypatch.setattr(scaling, "HORIZONS", (2,))
    monkeypatch.setattr(scaling, "CONTEXTS", (4, 48))  # the run's own longest sequence is 40
    config = load(*TINY, "dynamics=storm", "variants=[eager]")
    points = measure_scaling(config, CPU, lambda line: None)
    assert [(point.context, point.horizon) for point in points] == [(4, 4), (8, 2), (48, 4)]
    assert config.world_model.dynamics.max_length is None, "the caller's config stays"
