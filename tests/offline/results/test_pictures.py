"""Pictures of offline runs, and the scaling that one of them shows."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.offline_results import (
    colours,
    hand_made,
    read_all,
    result,
    scaling_results,
    table_rows,
    write,
)
from torchrl_glam.offline import results as offline
from torchrl_glam.offline.results import pictures
from torchrl_glam.offline.results.pictures import achieved, best_in_data
from torchrl_glam.offline.results.runs import read_run


@pytest.fixture
def make_runs(tmp_path):
    """A function that writes results and reads the runs, all of them."""
    return partial(read_all, tmp_path / "made")


def test_scaling_worked_out_by_hand(make_runs):
    (study,) = offline.scaling_studies(make_runs(*scaling_results(), result(model="dt", fraction=0.1)))
    assert study.title == "MambaDM on hopper/medium-v0, 20,000 updates"
    rows = table_rows(offline.scaling_table(study))
    assert rows[0] == ["size", "50 % of the data", "100 % of the data"]
    assert rows[2] == ["320 parameters, width 32", "51.0 ± 1.0 (3 seeds)", "61.0 ± 1.0 (3 seeds)"]
    assert rows[3] == ["640 parameters, width 64", "56.0 ± 1.0 (3 seeds)", "66.0 ± 1.0 (3 seeds)"]
    # Standard error: sqrt(1/3 + 1/3) = 0.8.
    assert rows[6:8] == [
        ["2 x the data (100 %), 320 parameters, width 32", "+10.0 ± 0.8"],
        ["2 x the data (100 %), 640 parameters, width 64", "+10.0 ± 0.8"],
    ]
    assert rows[8][0].startswith("from 320 parameters, width 32 to 640 parameters, width 64, 50 %")
    assert [row[1] for row in rows[8:]] == ["+5.0 ± 0.8", "+5.0 ± 0.8"]


def test_one_fraction_is_no_scaling_study(make_runs):
    assert offline.scaling_studies(make_runs(*hand_made())) == []


def test_kinds_of_one_size_are_lines_of_their_own(make_runs):
    (study,) = offline.scaling_studies(
        make_runs(
            *scaling_results(),
            result(
                fraction=0.5,
                transitions=500,
                **{
                    "width": 32,
                    "parameters": 320,
                    "memory": "carried",
                },
            ),
        )
    )
    assert len(study.lines) == 3
    assert [cell.seeds for cell in study.lines[0.5]] == [1, 3, 3]


def test_what_was_achieved_at_each_target(make_runs):
    found = make_runs(*(result(mean, seed=seed) for seed, mean in enumerate((100.0, 140.0))))
    assert {target: entry.mean for target, entry in achieved(found).items()} == {90.0: 60.0, 180.0: 120.0}


@pytest.mark.parametrize(
    ("places", "best"),
    [
        ([(0.5, 90.0), (1.0, 180.0)], 180.0),
        ([(0.5, 110.0), (0.75, 160.0)], 210.0),  # low 10
        ([(0.5, 90.0)], None),
        ([(None, None)], None),
    ],
)
def test_the_best_return_in_the_data(tmp_path, places, best):
    content = result()
    entry = {"returns": [1.0], "mean": 1.0, "normalised": None}
    content["evaluations"] = [{**entry, "fraction": share, "target_return": target} for share, target in places]
    assert best_in_data(read_run(write(tmp_path, content) / "run00" / "result.json")["evaluations"]) == best


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_the_picture_of_targets_has_every_model(make_runs, tmp_path):
    found = make_runs(*hand_made(), result(20.0, dataset="cartpole/mixed-v0"))
    ((title, grid),) = offline.make_grids(found).items()
    offline.plot_targets(tmp_path / "targets.png", grid, title)
    there = colours(tmp_path / "targets.png")
    assert {rgb(pictures.STYLES[model][0]) for model in ("bc", "dt", "mambadm")} <= there
    assert rgb(pictures.STYLES["dmamba"][0]) not in there


def test_a_kind_has_one_style_in_all_panels_and_shares_it_with_no_other(make_runs, tmp_path, monkeypatch):
    lengths = (3, 6, 9, 12, 15)
    found = make_runs(
        *(result(20.0, local_length=length) for length in lengths),
        result(20.0, local_length=15, dataset="cartpole/mixed-v0"),
    )
    drawn = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: drawn.append(figure))
    ((title, grid),) = offline.make_grids(found).items()
    offline.plot_targets(tmp_path / "targets.png", grid, title)
    styles = [
        (bars.get_label(), (line.get_color(), line.get_linestyle(), line.get_markerfacecolor()))
        for axes in drawn[0].axes
        for bars in axes.containers
        for line in [bars.lines[0]]
    ]
    assert len(styles) == len(lengths) + 1
    assert len(set(styles)) == len({style for _, style in styles}) == len(lengths)


def test_the_picture_of_targets_with_only_behaviour_cloning(make_runs, tmp_path):
    ((title, grid),) = offline.make_grids(make_runs(result(30.0, model="bc"))).items()
    offline.plot_targets(tmp_path / "targets.png", grid, title)
    assert rgb(pictures.STYLES["bc"][0]) in colours(tmp_path / "targets.png")


def test_the_picture_of_scaling_has_every_size(make_runs, tmp_path):
    studies = offline.scaling_studies(make_runs(*scaling_results()))
    offline.plot_scaling(tmp_path / "scaling.png", studies)
    assert {rgb(colour) for colour in pictures.SIZES[:2]} <= colours(tmp_path / "scaling.png")
