"""Tables of offline runs, from made-up results whose tables are worked out by hand."""

from __future__ import annotations

import csv
import doctest
import math
from functools import partial

import numpy as np
import pytest

from tests.support.offline_results import hand_made, read_all, result, table_rows
from torchrl_glam.offline import results as offline
from torchrl_glam.offline.results import pictures, published, runs, scaling, spread, tables
from torchrl_glam.offline.results.spread import Spread, best_of


@pytest.fixture
def make_runs(tmp_path):
    """A function that writes results and reads the runs, all of them."""
    return partial(read_all, tmp_path / "made")


@pytest.mark.parametrize("module", [published, runs, scaling, spread, tables, pictures])
def test_docstring_examples(module):
    assert doctest.testmod(module).failed == 0


def test_a_table_worked_out_by_hand(make_runs):
    text = offline.comparison_tables(make_runs(*hand_made()))
    rows = table_rows(text)
    assert rows[0] == ["dataset", "BC", "DT", "MambaDM"]
    # Normalised: 15; 20 and 30, sd sqrt(50) = 7.07; 50, 60, 70. Returns are twice these.
    normalised = ["15.0 (1 seed: too few)", "25.0 ± 7.1 (2 seeds: too few)", "60.0 ± 10.0 (3 seeds)"]
    returned = ["30.0 (1 seed: too few)", "50.0 ± 14.1 (2 seeds: too few)", "120.0 ± 20.0 (3 seeds)"]
    assert rows[2] == ["hopper/medium-v0", *normalised]
    assert rows[5] == ["hopper/medium-v0", *returned]
    assert "## 20,000 updates, all of the data" in text
    assert "**" not in text
    settings = [dict(zip(rows[6], row, strict=True)) for row in rows[8:]]
    assert [row["model"] for row in settings] == ["BC", "DT", "MambaDM"]
    assert [row["width"] for row in settings] == ["256", "128", "128"]
    assert [row["seeds"] for row in settings] == ["0", "0, 1", "0, 1, 2"]
    assert {row["parameters"] for row in settings} == {"700,000"}


def test_the_csv_has_a_line_for_each_cell(make_runs):
    rows = list(csv.DictReader(offline.comparison_csv(make_runs(*hand_made())).splitlines()))
    assert [row["model"] for row in rows] == ["bc", "dt", "mambadm"]
    assert [row["seeds"] for row in rows] == ["0", "0 1", "0 1 2"]
    assert [row["normalised_mean"] for row in rows] == ["15", "25", "60"]
    assert rows[0]["return_deviation"] == ""
    assert float(rows[1]["return_deviation"]) == pytest.approx(math.sqrt(200), rel=1e-5)


def test_without_references_there_are_only_returns(make_runs):
    text = offline.comparison_tables(make_runs(result(random_score=None, expert_score=None)))
    assert "Normalised score:" not in text
    assert "100.0 (1 seed: too few)" in text


def test_bold_is_who_is_best_beyond_doubt(make_runs):
    mamba = [result(mean, seed=seed) for seed, mean in enumerate((100.0, 120.0, 140.0))]
    lower = [result(mean, seed=seed, model="dt") for seed, mean in enumerate((10.0, 12.0, 14.0))]
    assert "**60.0 ± 10.0 (3 seeds)**" in offline.comparison_tables(make_runs(*mamba, *lower))


def test_the_interval_is_students():
    # t(0.975, 2) = 4.303: 60 ± 4.303 * 10 / sqrt(3)
    assert Spread.of([50, 60, 70]).interval == pytest.approx((35.16, 84.84), abs=0.01)
    assert Spread.of([50, 70]).interval is None
    assert Spread.of([1] * 40).interval == (1, 1)
    assert best_of([Spread.of([50, 60, 70]), Spread.of([33, 34, 35])]) is None  # up to 36.5
    assert best_of([Spread.of([50, 60, 70]), Spread.of([32, 33, 34])]) is None  # up to 35.48
    assert best_of([Spread.of([50, 60, 70]), None, Spread.of([31, 32, 33])]) == 0  # up to 34.48


def test_published_scores():
    scores = offline.published_offline_scores()
    assert len(scores) == 9
    assert list(scores["Hopper-MR"]) == ["CQL", "DT", "TT", "DMamba", "MambaDM", "RATE"]
    averages = {"CQL": 77.6, "DT": 74.7, "TT": 78.9, "DMamba": 78.8, "MambaDM": 79.0, "RATE": 78.5}  # as printed
    for model, printed in averages.items():
        assert np.mean([row[model] for row in scores.values()]) == pytest.approx(printed, abs=0.1)


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("hopper/medium-v0", "Hopper-M"),
        ("walker2d/medium-expert-v3", "Walker2d-ME"),
        ("hopper/expert-v0", None),
        ("hopper/medium", None),
        ("inverted-pendulum/replay-v0", None),
    ],
)
def test_published_task(dataset, task):
    assert offline.published_task(dataset) == task


def test_published_scores_stand_beside_ours(make_runs):
    other = [result(dataset="cartpole/mixed-v0"), result(fraction=0.5, transitions=1)]
    text = offline.published_table(make_runs(*hand_made(), *other, result(memory="carried")))
    rows = table_rows(text)
    assert rows[2] == ["Hopper-M", "published", "-", "67.6", "83.5", "85.7", "58.0", "61.1", "77.4"]
    assert rows[3][1] == "ours: hopper/medium-v0, 20,000 updates"
    assert rows[3][2:5] == ["15.0 (1 seed: too few)", "25.0 ± 7.1 (2 seeds: too few)", "-"]
    assert rows[3][5] == "memory carried: 50.0 (1 seed: too few); memory window: 60.0 ± 10.0 (3 seeds)"
    assert len(rows) == 4
    assert "our own teachers" in text


def test_nothing_is_published_on_other_tasks(make_runs):
    assert offline.published_table(make_runs(result(dataset="cartpole/mixed-v0"))) is None


def test_last_and_best_have_intervals_from_three_seeds_on(make_runs):
    """Three equal seeds have an interval of no width; the best evaluation is shown beside the last one."""
    best = {"best_mean": 160.0, "best_normalised": 80.0}
    mamba = [result(140.0, seed=seed, **best) for seed in range(3)]
    lower = [result(20.0 + 40 * seed, seed=seed, model="dt", **best) for seed in range(2)]
    rows = table_rows(offline.comparison_tables(make_runs(*mamba, *lower)))
    assert ["hopper/medium-v0", "last", "20.0 (2 seeds: too few)", "70.0 [70.0, 70.0]"] in rows
    assert ["hopper/medium-v0", "best", "80.0 (2 seeds: too few)", "80.0 [80.0, 80.0]"] in rows
