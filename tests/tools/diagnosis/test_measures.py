"""Counts, rankings, returns and calibration, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from torchrl_glam.tools.diagnosis.measures import calibrate, detect, discounted_returns, ranking, widen

REAL = torch.tensor([True, False, False, True, False, True, False, False])
SCORE = torch.tensor([0.9, 0.8, 0.1, 0.2, 0.0, 0.0, 0.0, 0.3])


def test_hits_and_misses_are_counted():
    found = detect(REAL, SCORE > 0.5, SCORE)
    assert (found.number, found.real, found.said, found.found, found.right) == (8, 3, 2, 1, 1)
    assert (found.recall, found.precision) == (1 / 3, 1 / 2)


def test_one_step_of_tolerance():
    """Predicted at steps 0 and 1, real at 0, 3 and 5: step 1 is near 0, and nothing is near 3 or 5."""
    said = SCORE > 0.5
    near = {"near_real": widen(REAL[None])[0], "near_said": widen(said[None])[0]}
    found = detect(REAL, said, SCORE, **near)
    assert near["near_said"].tolist() == [True, True, True] + 5 * [False]
    assert near["near_real"].tolist() == [True, True, True, True, True, True, True, False]
    assert (found.recall, found.precision) == (1 / 3, 1.0)


def test_tolerance_stays_within_its_row():
    flags = torch.tensor([[False, False, True], [False, False, False]])
    assert widen(flags).tolist() == [[False, True, True], [False, False, False]]


def test_nothing_real_or_predicted_is_no_share():
    none = torch.zeros(4, dtype=torch.bool)
    found = detect(none, none, torch.zeros(4))
    assert (found.recall, found.precision, found.ranking) == (None, None, None)
    assert detect(none[:0], none[:0], torch.zeros(0)).number == 0


def test_ranking_is_the_share_of_pairs_in_order():
    """0.9 beats all five; 0.2 loses to 0.8 and 0.3 and beats three; 0.0 loses to three and ties with two."""
    assert ranking(SCORE, REAL) == pytest.approx((5 + 3 + 2 * 0.5) / 15)
    assert ranking(torch.zeros(8), REAL) == 0.5
    assert ranking(-SCORE, REAL) == pytest.approx(1 - 9 / 15)


def test_returns_stop_at_terminations_and_are_unknown_after_ends():
    """Steps 0 and 1 lead to a lost life, 2 and 3 to an end that is none (a time limit), 4 to the end of the data."""
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    terminated = torch.tensor([False, True, False, False, False])
    ends = torch.tensor([False, False, False, True, True])
    returns, rest = discounted_returns(reward, terminated, ends, 0.5)
    assert returns.tolist() == [2.0, 2.0, 8.0, 8.0, 16.0]
    assert rest.tolist() == [0.0, 0.0, 0.25, 0.5, 0.5]


def test_a_life_that_ends_the_episode_leaves_nothing_unknown():
    flags = torch.tensor([False, True])
    returns, rest = discounted_returns(torch.ones(2), flags, flags, 0.5)
    assert (returns.tolist(), rest.tolist()) == ([1.5, 1.0], [0.0, 0.0])


def test_calibration_by_hand():
    """Values 0 and 2, returns 1, 3, 7 and 5: a line of slope 2 through (1, 4)."""
    found = calibrate(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 3.0, 7.0, 5.0]), parts=2)
    assert found is not None
    assert (found.number, found.value_mean, found.return_mean, found.bias) == (4, 1.0, 4.0, -3.0)
    assert (found.value_deviation, found.return_deviation) == (1.0, pytest.approx(math.sqrt(5)))
    assert found.slope == pytest.approx(2)
    assert found.correlation == pytest.approx(2 / math.sqrt(5))
    assert found.curve == [(0.0, 2.0), (2.0, 6.0)]


def test_what_does_not_vary_has_no_correlation():
    flat = calibrate(torch.full((5,), 0.1), torch.arange(5.0))
    assert flat is not None
    assert (flat.correlation, flat.slope, len(flat.curve)) == (None, None, 5)
    same = calibrate(torch.arange(5.0), torch.full((5,), 0.1))
    assert same is not None
    assert (same.correlation, same.slope) == (None, pytest.approx(0))
    assert calibrate(torch.zeros(0), torch.zeros(0)) is None
