"""Published numbers: which printed aggregates follow from the per-game scores, and what stands beside ours."""

from __future__ import annotations

import itertools

import pytest

from tests.support.made_runs import write_run
from torchrl_glam.envs.scores import ReferenceScores
from torchrl_glam.tools.report import References, check_published, load_references, make_methods, read_runs
from torchrl_glam.tools.report.comparisons import ablation_table, checks_table, differences, published_table
from torchrl_glam.tools.report.published import Check, score_bounds

SCALE = load_references(References.table1)


def methods_in(folder):
    return make_methods(read_runs([folder]).runs)[0]


def test_which_printed_aggregates_follow():
    checks = {(check.method, check.quantity, check.printed): check for check in check_published()}
    assert {key for key, check in checks.items() if not check.follows} == {
        ("STORM", "median", "0.584"),  # its column gives 42.8 %
        ("STORM", "mean", "1.267"),
        ("DreamerV3", "median", "0.485"),
    }
    assert {("GLAM", "mean", "1.306"), ("GLAM", "median", "0.618"), ("STORM", "median", "0.425")} <= checks.keys()
    assert ("IRIS", "superhuman", "10") in checks
    assert checks["STORM", "median", "0.584"].computed == pytest.approx(0.428, abs=5e-4)
    text = checks_table()
    assert text.count("**no**") == 3
    assert "* STORM's median of 0.584 (GLAM (arXiv 2501.11949), Table 1) does not follow from GLAM's Table 1: " in text
    assert "between MsPacman, 0.356, and Breakout, 0.500" in text


@pytest.mark.parametrize(
    ("printed", "follows"),
    [
        ("0.58", True),
        ("0.579", False),
        ("0.5821", False),
        ("0.582", True),
        ("0.62", True),
        ("0.63", False),
        ("1", False),
    ],
)
def test_a_number_follows_if_rounding_can_give_it(printed, follows):
    assert Check("A", "mean", 0.6, 0.5822, 0.6178, printed, "").follows is follows


def test_bounds_hold_whatever_was_rounded():
    """The ends are reached at corners, so no rounding that a fine grid tries lies outside of them."""
    steps = [-0.5, -0.3, 0.0, 0.4, 0.5]
    for score, random, human in [(78, 0, 12), (0, 0, 30), (20, 31, 25), (15, -21, 15)]:
        low, high = score_bounds(score, ReferenceScores(random, human))
        tried = [(score + a - random - b) / (human + c - random - b) for a, b, c in itertools.product(steps, repeat=3)]
        assert low == pytest.approx(min(tried))
        assert high == pytest.approx(max(tried))


def test_unrounded_references_round_to_the_tables():
    unrounded = load_references(References.unrounded)
    assert list(unrounded) == list(SCALE)
    apart = {
        game: (reference.random, unrounded[game].random)
        for game, reference in SCALE.items()
        if abs(reference.random - unrounded[game].random) > 0.5 or abs(reference.human - unrounded[game].human) > 0.5
    }
    assert apart == {"KungFuMaster": (256.0, 258.5)}, "the one number that Table 1 prints otherwise"


def test_our_scores_stand_beside_the_published_ones_of_the_same_games(tmp_path):
    for seed, score in enumerate((10.0, 14.0)):
        write_run(tmp_path, "Pong", seed, [score], total_frames=20_000, protocol="standard")
    write_run(tmp_path, "CartPole-v1", 0, [100.0], total_frames=20_000, protocol="standard")
    methods = methods_in(tmp_path)
    _, _, row = published_table(methods, SCALE).splitlines()
    assert row == "| Pong | -21 | 15 | 13 | 19 | 15 | 18 | 5 | 11 | 18 | 12.0 |"
    assert differences(methods) == [
        "paper is not comparable as it stands: 20,000 steps, not 100,000; protocol `standard`, not GLAM's `glam`."
    ]


def test_what_is_run_as_the_paper_did_is_comparable(tmp_path):
    write_run(tmp_path, "CartPole-v1", 0, [100.0])
    assert differences(methods_in(tmp_path)) == []
    assert published_table(methods_in(tmp_path), SCALE) is None


def test_ablations_stand_beside_table_2(tmp_path):
    write_run(tmp_path, "Pong", 0, [17.0])
    write_run(tmp_path, "Pong", 0, [16.0], objective="ppo", config_hash="a")
    assert ablation_table(methods_in(tmp_path), SCALE) is None
    write_run(tmp_path, "Boxing", 0, [50.0], ablation="without_g_and_l", dynamics="storm", config_hash="b")
    rows = ablation_table(methods_in(tmp_path), SCALE).splitlines()[2:]
    assert "| `ablation=without_g_and_l` | published | 8 | 63 | 26,984 | 8,320 |" in rows
    place = rows.index("| `ablation=without_g_and_l` | published | 8 | 63 | 26,984 | 8,320 |")
    assert rows[place + 1] == "|  | ours: paper, ablation without_g_and_l | - | 50.0 | - | - |"
    assert rows[-2:] == [
        "| `ablation=none` | published | 18 | 76 | 32,680 | 13,190 |",
        "|  | ours: paper | 17.0 | - | - | - |",
    ]
