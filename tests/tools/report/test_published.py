"""Published numbers: which printed aggregates follow from the per-game scores."""

from __future__ import annotations

import itertools

import pytest

from torchrl_glam.envs.scores import ReferenceScores
from torchrl_glam.tools.report.published import check_published, complaint, follows, score_bounds


def test_which_printed_aggregates_follow():
    checks = {(check.method, check.quantity, check.printed): check for check in check_published().itertuples()}
    assert {key for key, check in checks.items() if not check.follows} == {
        ("STORM", "median", "0.584"),  # its column gives 42.8 %
        ("STORM", "mean", "1.267"),
        ("DreamerV3", "median", "0.485"),
    }
    assert {("GLAM", "mean", "1.306"), ("GLAM", "median", "0.618"), ("STORM", "median", "0.425")} <= checks.keys()
    assert ("IRIS", "superhuman", "10") in checks
    check = checks["STORM", "median", "0.584"]
    assert check.computed == pytest.approx(0.428, abs=5e-4)
    text = complaint(check)
    assert text.startswith(
        "STORM's median of 0.584 (GLAM (arXiv 2501.11949), Table 1) does not follow from GLAM's Table 1: "
    )
    assert "between MsPacman, 0.356, and Breakout, 0.500" in text


@pytest.mark.parametrize(
    ("printed", "wanted"),
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
def test_a_number_follows_if_rounding_can_give_it(printed, wanted):
    assert follows(printed, 0.5822, 0.6178) is wanted


def test_bounds_hold_whatever_was_rounded():
    """The ends are reached at corners, so no rounding that a fine grid tries lies outside of them."""
    steps = [-0.5, -0.3, 0.0, 0.4, 0.5]
    for score, random, human in [(78, 0, 12), (0, 0, 30), (20, 31, 25), (15, -21, 15)]:
        low, high = score_bounds(score, ReferenceScores(random, human))
        tried = [(score + a - random - b) / (human + c - random - b) for a, b, c in itertools.product(steps, repeat=3)]
        assert low == pytest.approx(min(tried))
        assert high == pytest.approx(max(tried))
