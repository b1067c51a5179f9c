"""Results of offline runs are read, damaged ones named, and only like put with like."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest

from tests.support.offline_results import read_all, result, write
from torchrl_glam.errors import UsageError
from torchrl_glam.offline import results as offline
from torchrl_glam.offline.results.runs import read_run
from torchrl_glam.offline.results.tables import group


@pytest.fixture
def make_runs(tmp_path):
    """A function that writes results and reads the runs, all of them."""
    return partial(read_all, tmp_path / "made")


@pytest.mark.parametrize(
    "change",
    [
        {"total_updates": 500},
        {"fraction": 0.25},
        {"width": 64},
        {"memory": "carried"},
        {"loss": "online_dt"},
        {"preset": "other"},
        {"parameters": 99},
        {"transitions": 7},
        {"expert_score": 400.0},
        {"local_length": 12},
    ],
)
def test_unlike_runs_share_no_cell(make_runs, change):
    found = make_runs(result(100.0, seed=0), result(140.0, seed=1, **change))
    cells = {
        (title, *place): list(cell["mean"])
        for title, grid in offline.make_grids(found).items()
        for place, cell in group(grid, ["row", "column"])
    }
    assert sorted(cells.values()) == [[100.0], [140.0]]
    assert offline.comparison_tables(found).count("1 seed: too few") == 4  # scores and returns of both
    assert len(offline.comparison_csv(found).splitlines()) == 3


def test_what_differs_is_in_the_name_and_nothing_else(make_runs):
    found = make_runs(result(), result(width=64, parameters=9, preset="small"), result(model="dt"))
    (grid,) = offline.make_grids(found).values()
    assert list(grid["column"].cat.categories) == ["DT", "MambaDM (width 64)", "MambaDM (width 128)"]


def test_widths_of_different_datasets_share_a_column(make_runs):
    found = make_runs(result(), result(dataset="cartpole/mixed-v0", width=64, parameters=9))
    (grid,) = offline.make_grids(found).values()
    labels = [list(grid[name].cat.categories) for name in ("row", "column")]
    assert labels == [["cartpole/mixed-v0", "hopper/medium-v0"], ["MambaDM"]]


def test_data_of_one_name_that_differ_have_rows_of_their_own(make_runs):
    found = make_runs(result(), result(expert_score=400.0), result(expert_score=None, random_score=None))
    (grid,) = offline.make_grids(found).values()
    labels = [list(grid[name].cat.categories) for name in ("row", "column")]
    rows = [f"hopper/medium-v0 ({references})" for references in ("random score 0, expert score 200",)]
    assert labels[1] == ["MambaDM"]
    assert len(labels[0]) == 3
    assert rows[0] in labels[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"dataset": "hop', "damaged"),
        ("\xff\xfe", "damaged"),
        ("[]", "a list"),
        ('{"returns": [1, 2]}', "no dataset"),
        (json.dumps(result(model="gpt")), "'gpt', none of bc, dt, dmamba, mambadm"),
        (json.dumps({**result(), "mean": "much"}), "mean is 'much' and not a number"),
        (json.dumps({**result(), "mean": math.nan}), "mean is nan and not finite"),
        (json.dumps({**result(), "seed": 1.5}), "seed is 1.5 and not a whole number"),
        (json.dumps({**result(), "seed": True}), "seed is True"),
        (json.dumps({**result(), "dataset": 3}), "dataset is 3 and not a text"),
        (json.dumps({**result(), "evaluations": []}), "evaluations are empty"),
        (json.dumps({**result(), "evaluations": [{"returns": []}]}), "an evaluation: it has no mean"),
        (json.dumps({**result(), "evaluations": [7]}), "an evaluation: it is 7"),
        ("[" * 100_000, "damaged"),
        (json.dumps({**result(), "mean": 10**400}), "damaged"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line(tmp_path, content, complaint):
    folder = write(tmp_path, result())
    path = folder / "other" / "result.json"
    path.parent.mkdir()
    path.write_text(content, encoding="latin-1")
    found, (line,) = offline.read_runs(folder)
    assert len(found) == 1
    assert line.startswith(f"{path} is left out: ")
    assert complaint in line
    assert "\n" not in line


def test_a_run_that_is_there_twice_counts_once(tmp_path):
    found, (line,) = offline.read_runs(write(tmp_path, result(100.0), result(101.0)))
    assert list(found["mean"]) == [100.0]
    assert f"seed 0 with these settings is in {tmp_path}/run00/result.json already" in line


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UsageError, match="missing is not a folder"):
        offline.read_runs(tmp_path / "missing")
    with pytest.raises(UsageError, match="has no result of an offline run: make some"):
        offline.read_runs(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match=r"has no result of an offline run; .*it has no dataset"):
        offline.read_runs(tmp_path)


def test_null_references_and_sizes_are_read(tmp_path):
    write(tmp_path, result(random_score=None, expert_score=None, width=None, memory=None, env=None))
    run = read_run(tmp_path / "run00" / "result.json")
    assert [run[name] for name in ("normalised", "width", "memory", "context")] == [None] * 4
    assert (run["highest_target"], run["episodes"]) == (180.0, 2)
    found, _ = offline.read_runs(tmp_path)
    assert "no width" not in offline.comparison_tables(found)
