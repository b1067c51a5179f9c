"""The benchmark of acting, at sizes of seconds: which work it measures, not how fast that is."""

from __future__ import annotations

import csv
import doctest
import runpy
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support.paths import EXAMPLES
from torchrl_glam.errors import UsageError
from torchrl_glam.offline import benchmark as acting
from torchrl_glam.offline import benchmark_updates as updates
from torchrl_glam.offline.actor import MambaDMActor
from torchrl_glam.offline.benchmark import BASELINE, CARRIED, WINDOW

EXAMPLE = EXAMPLES / "benchmark_acting.py"
TINY = {"observation_size": 3, "action_size": 2, "width": 8, "num_layers": 1, "rounds": 2, "seconds": 1e-3}


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE)


def made_up() -> pd.DataFrame:
    """A call takes 2 ms by the carried state, 0.1 ms for each step of a window (MambaDM's twice that).

    Two of three rounds are faster or slower by a factor.
    """
    times = {CARRIED: lambda t: 2e-3, WINDOW: lambda t: 2e-4 * t, BASELINE: lambda t: 1e-4 * t}
    rows = [
        {"way": way, "batch": b, "context": t, "seconds": factor * time(t), "calls": 10}
        for factor in (1.2, 0.9, 1.0)
        for way, time in times.items()
        for b in (1, 10)
        for t in (5, 20, 40)
    ]
    return acting.summarise(pd.DataFrame(rows))


def test_ratios_are_to_the_transformers_window_of_20_steps_of_that_batch():
    ratios = made_up().set_index(["way", "batch", "context"])["ratio"]
    for b in (1, 10):
        assert ratios[BASELINE, b, 20] == 1
        assert ratios[BASELINE, b, 40] == pytest.approx(2)
        assert ratios[WINDOW, b, 5] == pytest.approx(0.5)
        assert ratios[CARRIED, b, 40] == pytest.approx(1)


def test_the_median_of_rounds_counts():
    points = made_up()
    assert list(points.columns) == ["way", "batch", "context", "seconds", "lowest", "highest", "calls", "ratio"]
    assert len(points) == 18
    assert points.iloc[0][["way", "batch", "context", "calls"]].tolist() == [CARRIED, 1, 5, 30]
    assert points.iloc[0][["seconds", "lowest", "highest"]].tolist() == pytest.approx([2e-3, 1.8e-3, 2.4e-3])


def test_table():
    lines = acting.acting_table(made_up()).splitlines()
    assert lines[0] == f"| batch | context, steps | {CARRIED} | {WINDOW} | {BASELINE} |"
    assert lines[2] == "| 1 | 5 | 2 ms (1x) | 1 ms (0.5x) | 500 us (0.25x) |"
    assert lines[-1] == "| 10 | 40 | 200 us (1x) | 800 us (4x) | 400 us (2x) |"


def test_every_way_batch_and_context_is_measured():
    said: list[str] = []
    before = torch.get_rng_state()
    points = acting.measure_acting([5, 20], [1, 2], **TINY, progress=said.append)
    assert torch.equal(before, torch.get_rng_state())
    assert len(points) == len(points.value_counts(["way", "batch", "context"])) == 3 * 2 * 2
    assert (points["lowest"] > 0).all()
    assert points["seconds"].between(points["lowest"], points["highest"]).all()
    assert (points["calls"] >= 2).all()
    assert said == ["round 1 of 2", "round 2 of 2"]


def test_both_ways_choose_the_same_action():
    """So it is the same work that is compared: the carried state against the window it stands for."""
    torch.manual_seed(0)
    actor = MambaDMActor((3,), 2, width=8, num_layers=1).eval()
    window = acting.WindowAction(actor, 2, 7)
    carried = acting.CarriedAction(actor, 2, 1)
    observation, action = window.inputs
    with torch.no_grad():
        for step in range(7):
            carried.observation, carried.action = observation[:, step], action[:, step]
            carried.return_to_go = window.return_to_go[:, step]
            output = carried()
        torch.testing.assert_close(output, window())


def test_the_carried_state_has_the_context_behind_it():
    actor = MambaDMActor((3,), 2, width=8, num_layers=1).eval()
    with torch.no_grad():
        carried = acting.CarriedAction(actor, 2, 7)
    assert carried.time_step.tolist() == [[6], [6]]  # the seventh step is the one that is timed


@pytest.mark.parametrize(
    ("contexts", "batches", "rounds", "complaint"),
    [([5, 10], [1], 1, "lack 20"), ([20], [0], 1, "batches"), ([20], [], 1, "batches"), ([20], [1], 0, "rounds")],
)
def test_bad_input(contexts, batches, rounds, complaint):
    with pytest.raises(UsageError, match=complaint):
        acting.measure_acting(contexts, batches, **{**TINY, "rounds": rounds})


def test_the_picture_shows_every_way(tmp_path):
    acting.plot_acting(tmp_path / "acting.png", made_up(), "a machine")
    with Image.open(tmp_path / "acting.png") as image:
        there = {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour, _ in acting.STYLES.values()} <= there


def test_the_script_writes_a_table_and_a_picture(monkeypatch, capsys, tmp_path):
    options = [*(f"{name}={value}" for name, value in TINY.items()), "batch=2", "longest=20", f"out={tmp_path / 'new'}"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    out, err = capsys.readouterr()
    assert err == ""
    assert "width 8, 1 layers; medians of 2 rounds" in out
    rows = list(csv.DictReader((tmp_path / "new" / "acting.csv").read_text().splitlines()))
    assert [(row["batch"], row["context"]) for row in rows[:6]] == [
        (b, t) for b in ("1", "2") for t in ("5", "10", "20")
    ]
    assert len(rows) == 18
    assert (tmp_path / "new" / "acting.png").stat().st_size > 10_000


def test_the_script_refuses_bad_input_in_one_line(refused, tmp_path):
    assert refused("longest=10", f"out={tmp_path}").startswith("error: longest=10: give at least 20")
    assert refused("rounds=0", f"out={tmp_path}") == "error: rounds=0: give a whole number of at least 1"
    assert refused("seconds=0", f"out={tmp_path}") == "error: seconds=0.0: give a number above 0"
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(f"out={tmp_path / 'file'}")


def test_docstring_examples():
    assert doctest.testmod(acting).failed == 0


def test_updates_are_timed_against_the_transformer_of_the_same_window():
    before = torch.get_rng_state()
    points = updates.measure_updates(
        [2, 4], batch=2, observation_size=3, action_size=2, width=8, num_layers=1, rounds=2
    )
    assert torch.equal(before, torch.get_rng_state())
    assert points["model"].tolist() == ["Transformer", "DMamba", "MambaDM"] * 2
    assert (points.loc[points["model"] == "Transformer", "ratio"] == 1).all()
    assert points["seconds"].between(points["lowest"], points["highest"]).all()
    lines = updates.updates_table(points).splitlines()
    assert lines[0] == "| window, steps | Transformer | DMamba | MambaDM |"
    assert len(lines) == 4
    with pytest.raises(UsageError, match="rounds 0: give whole numbers"):
        updates.measure_updates([2], rounds=0)
