"""What is too little gives no aggregate that would mislead, and the report says what it left out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.made_runs import per_seed_scores, write_method, write_run
from torchrl_glam.envs.scores import atari_100k_games, atari_100k_scores
from torchrl_glam.tools.report import References, load_references, make_methods, read_runs
from torchrl_glam.tools.report.aggregates import aggregate, aggregates_table, improvement_table
from torchrl_glam.tools.report.curves import panel_curves
from torchrl_glam.tools.report.limits import MIN_GAMES
from torchrl_glam.tools.report.panels import make_panels
from torchrl_glam.tools.report.statistics import Bootstrap

GAMES = atari_100k_games()
SCALE = load_references(References.table1)
BOOTSTRAP = Bootstrap(resamples=100)


def panels_of(folder):
    return make_panels(make_methods(read_runs([folder]).runs)[0], SCALE)


def test_few_games_have_no_aggregate(tmp_path):
    write_method(tmp_path, "IRIS", games=GAMES[: MIN_GAMES - 1], seeds=3)
    write_run(tmp_path, "Tetris", 0, [1.0], preset="IRIS", config_hash="IRIS00000000")  # none of the 26
    assert panels_of(tmp_path) == ([], ["IRIS: 9 games of the 26, no aggregate."])
    write_method(tmp_path, "IRIS", games=GAMES[MIN_GAMES - 1 : MIN_GAMES], seeds=3)
    (panel,), lines = panels_of(tmp_path)
    assert (panel.title, panel.games, lines) == ("10 of the 26 games", GAMES[:10], [])


@pytest.mark.parametrize(
    ("number", "frames", "title"),
    [
        (25, 100_000, "25 of the 26 games"),
        (26, 100_000, "Atari 100k, all 26 games"),
        (26, 99_999, "all 26 games"),
    ],
)
def test_atari_100k_is_all_games_after_100k_steps(tmp_path, number, frames, title):
    write_method(tmp_path, "IRIS", games=GAMES[:number], seeds=1, total_frames=frames)
    (panel,), _ = panels_of(tmp_path)
    assert panel.title == title


def test_few_seeds_have_no_interval_and_no_comparison(tmp_path):
    write_method(tmp_path, "IRIS", seeds=2)
    write_method(tmp_path, "SimPLe", seeds=3)
    (panel,), _ = panels_of(tmp_path)
    result = aggregate(panel, SCALE, BOOTSTRAP)
    assert {label: found["IQM"].low is None for label, found in result.aggregates.items()} == {
        "IRIS": True,
        "SimPLe": False,
    }
    assert result.improvement == {}
    assert improvement_table(result) is None
    assert panel.notes == ["IRIS: 2 seeds per game, too few for an interval."]


def test_of_ragged_seeds_those_are_taken_that_every_game_has(tmp_path):
    write_method(tmp_path, "IRIS", games=GAMES[1:], seeds=4)
    write_method(tmp_path, "IRIS", games=GAMES[:1], seeds=3)
    (panel,), _ = panels_of(tmp_path)
    (note,) = panel.notes
    assert note.startswith("IRIS: 3 seeds in every game; 25 runs of further seeds left out (Amidar, Assault, ")
    scores = np.array([per_seed_scores("IRIS")[game][:3] for game in GAMES]).T
    random, human = (np.array([getattr(SCALE[game], name) for game in GAMES]) for name in ("random", "human"))
    np.testing.assert_allclose(panel.scores("IRIS", SCALE), (scores - random) / (human - random))


def test_methods_are_compared_on_the_games_that_all_have(tmp_path):
    write_method(tmp_path, "IRIS", seeds=3)
    write_method(tmp_path, "SimPLe", games=GAMES[5:17], seeds=3)
    panels, lines = panels_of(tmp_path)
    assert lines == []
    assert [(panel.title, [method.label for method in panel.methods]) for panel in panels] == [
        ("Atari 100k, all 26 games", ["IRIS"]),
        ("12 of the 26 games", ["IRIS", "SimPLe"]),
    ]
    whole, part = (aggregate(panel, SCALE, BOOTSTRAP) for panel in panels)
    assert list(part.improvement) == [("IRIS", "SimPLe")]
    assert whole.published["Hieros"][3] == 25, "it has no score in UpNDown"
    assert "published: Hieros (25 of 26 games)" in aggregates_table(whole)
    assert part.published["Hieros"][3] == 12, "the published ones are of the same games"
    (published,) = [line for line in aggregates_table(part).splitlines() if "published: GLAM" in line]
    table = atari_100k_scores()
    glam, random, human = np.array(
        [[table[game][name] for game in GAMES[5:17]] for name in ("GLAM", "random", "human")]
    )
    scores = (glam - random) / (human - random)
    assert f"| {scores.mean():.3f} | {np.median(scores):.3f} | - | - |" in published


def test_protocols_are_not_compared_with_each_other(tmp_path):
    write_method(tmp_path, "IRIS", seeds=3)
    write_method(tmp_path, "SimPLe", seeds=3, protocol="standard")
    (panel,), _ = panels_of(tmp_path)
    result = aggregate(panel, SCALE, BOOTSTRAP)
    assert result.improvement == {}
    assert "| ours: SimPLe | standard | 100,000 | 3 |" in aggregates_table(result)


def test_a_curve_is_the_iqm_over_runs_from_where_all_have_begun(tmp_path):
    """Each run's return is its final score from step 30 000 on, and random play's before, in all but one game."""
    for game, scores in per_seed_scores("IRIS").items():
        first = 20_000 if game == "Pong" else 1_000
        for seed, score in enumerate(scores[:3]):
            curve = [(first, SCALE[game].random), *((30_000 + step, score) for step in range(10))]
            write_run(tmp_path, game, seed, [score], curve=curve)
    (panel,), _ = panels_of(tmp_path)
    curves, notes = panel_curves(panel, SCALE, BOOTSTRAP)
    steps, estimates = curves["paper"]
    assert notes == []
    assert steps[0] == 20_000
    assert estimates[0].point == pytest.approx(0)
    assert estimates[-1].point == pytest.approx(aggregate(panel, SCALE, BOOTSTRAP).aggregates["paper"]["IQM"].point)
    assert estimates[-1].low < estimates[-1].point < estimates[-1].high

    write_method(tmp_path, "SimPLe", seeds=1)
    (panel,), _ = panels_of(tmp_path)
    assert panel_curves(panel, SCALE, BOOTSTRAP)[1] == ["SimPLe: no sample-efficiency curve, 26 runs without episodes."]
