"""With too few games or seeds there is no aggregate that would mislead, and the report says what it left out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.made_runs import per_seed_scores, write_method, write_run
from torchrl_glam.envs.scores import atari_100k_games, atari_100k_scores
from torchrl_glam.tools.report.limits import MIN_GAMES
from torchrl_glam.tools.report.methods import tabulate_runs
from torchrl_glam.tools.report.panels import learning_curves, make_panels
from torchrl_glam.tools.report.references import References, load_references
from torchrl_glam.tools.report.runs import read_runs
from torchrl_glam.tools.report.statistics import Bootstrap
from torchrl_glam.tools.report.tables import aggregates_table

GAMES = atari_100k_games()
SCALE = load_references(References.table1)
BOOTSTRAP = Bootstrap(resamples=100)


def panels_of(folder):
    return make_panels(tabulate_runs(read_runs([folder]).runs, SCALE)[0], SCALE, BOOTSTRAP)


def iqm(panel, method):
    (row,) = [row for row in panel.aggregates.itertuples() if (row.method, row.quantity) == (method, "IQM")]
    return row


def improvements(panel):
    return [row.method for row in panel.aggregates.itertuples() if row.quantity == "probability of improvement"]


def rows(table):
    return [" | ".join(map(str, row)) for row in table.to_numpy()]


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
    assert [np.isnan(iqm(panel, method).low) for method in ("IRIS", "SimPLe")] == [True, False]
    assert improvements(panel) == []
    assert panel.notes == ["IRIS: 2 seeds per game, too few for an interval."]


def test_of_ragged_seeds_those_are_taken_that_every_game_has(tmp_path):
    write_method(tmp_path, "IRIS", games=GAMES[1:], seeds=4)
    write_method(tmp_path, "IRIS", games=GAMES[:1], seeds=3)
    (panel,), _ = panels_of(tmp_path)
    (note,) = panel.notes
    assert note.startswith("IRIS: 3 seeds in every game; 25 runs of further seeds left out (Amidar, Assault, ")
    scores = np.array([per_seed_scores("IRIS")[game][:3] for game in GAMES]).T
    random, human = (SCALE.loc[list(GAMES), name].to_numpy() for name in ("random", "human"))
    np.testing.assert_allclose(panel.scores["IRIS"], (scores - random) / (human - random))


def test_methods_are_compared_on_the_games_that_all_have(tmp_path):
    write_method(tmp_path, "IRIS", seeds=3)
    write_method(tmp_path, "SimPLe", games=GAMES[5:17], seeds=3)
    panels, lines = panels_of(tmp_path)
    assert lines == []
    assert [(panel.title, panel.methods.index.tolist()) for panel in panels] == [
        ("Atari 100k, all 26 games", ["IRIS"]),
        ("12 of the 26 games", ["IRIS", "SimPLe"]),
    ]
    whole, part = panels
    assert improvements(part) == ["IRIS > SimPLe"]
    assert "published: Hieros (25 of 26 games)" in set(aggregates_table(whole)["method"]), "no score in UpNDown"
    assert "published: Hieros" in set(aggregates_table(part)["method"]), "the published ones are of the same games"
    (published,) = [row for row in rows(aggregates_table(part)) if row.startswith("published: GLAM")]
    table = atari_100k_scores()
    glam, random, human = np.array(
        [[table[game][name] for game in GAMES[5:17]] for name in ("GLAM", "random", "human")]
    )
    scores = (glam - random) / (human - random)
    assert f" | {scores.mean():.3f} | {np.median(scores):.3f} | nan | nan | " in published


def test_protocols_are_not_compared_with_each_other(tmp_path):
    write_method(tmp_path, "IRIS", seeds=3)
    write_method(tmp_path, "SimPLe", seeds=3, protocol="standard")
    (panel,), _ = panels_of(tmp_path)
    assert improvements(panel) == []
    assert any(row.startswith("ours: SimPLe | standard | 100,000 | 3 |") for row in rows(aggregates_table(panel)))


def test_a_curve_is_the_iqm_over_runs_from_where_all_have_begun(tmp_path):
    """Each run's return is its final score from step 30 000 on, and random play's before, in all but one game."""
    for game, scores in per_seed_scores("IRIS").items():
        first = 20_000 if game == "Pong" else 1_000
        for seed, score in enumerate(scores[:3]):
            curve = [(first, SCALE.loc[game, "random"]), *((30_000 + step, score) for step in range(10))]
            write_run(tmp_path, game, seed, [score], curve=curve)
    (panel,), _ = panels_of(tmp_path)
    curves, notes = learning_curves(panel)
    steps, estimates = curves["paper"]
    assert notes == []
    assert steps[0] == 20_000
    assert estimates[0][0] == pytest.approx(0)
    point, low, high = estimates[-1]
    assert low < point < high
    assert point == pytest.approx(iqm(panel, "paper").value)

    write_method(tmp_path, "SimPLe", seeds=1)
    (panel,), _ = panels_of(tmp_path)
    assert learning_curves(panel)[1] == ["SimPLe: no sample-efficiency curve, 26 runs without episodes."]
