"""Aggregates, intervals and tests on numbers small enough to work out by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.statistics import (
    Bootstrap,
    aggregates,
    better_than_random,
    interquartile_means,
    load_rliable,
    performance_profile,
    probability_of_improvement,
)

SCORES = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 100.0]])  # four seeds of two games


def test_aggregates_worked_out_by_hand():
    found = Bootstrap(resamples=100).estimate(aggregates, SCORES)
    # Means of the games 3 and 27.25; the middle four of all eight are 2, 3, 4, 5; of one game's zero, 1 is missing.
    assert found[:, 0].tolist() == [15.125, 15.125, 3.5, 0.125]
    assert (found[:, 1] <= found[:, 0]).all()
    assert (found[:, 0] <= found[:, 2]).all()
    three = Bootstrap(100).estimate(aggregates, np.array([[1.0, 2.0, 9.0]] * 3))
    assert three[:2, 0].tolist() == [4.0, 2.0]


def test_seeds_are_resampled_within_each_game():
    """Of 0, 1, 2 each mean of three draws is 0 in one of 27, so at 2.5 %; the other game adds 10 and no spread."""
    mean, *_ = Bootstrap(1000).estimate(aggregates, np.array([[0.0, 10.0], [1.0, 10.0], [2.0, 10.0]]))
    assert mean.tolist() == [5.5, 5.0, 6.0]
    # Were seeds drawn for both games at once, 0 + 2, 1 + 1 and 2 + 0 would have no spread.
    (_, low, high), *_ = Bootstrap(1000).estimate(aggregates, np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]))
    assert high - low > 0.5


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_no_interval(seeds):
    estimate, few = Bootstrap(resamples=100).estimate, SCORES[:seeds]
    pairs = [(few, SCORES), (SCORES, few)]
    found = [estimate(aggregates, few), *(estimate(probability_of_improvement, *pair) for pair in pairs)]
    found.append(estimate(interquartile_means, few[..., None]))
    assert np.isnan(np.concatenate(found)[:, 1:]).all()
    assert not np.isnan(estimate(probability_of_improvement, SCORES[:3], SCORES[1:])).any()


def test_an_estimate_only_depends_on_its_seed():
    np.random.seed(3)
    wanted = np.random.rand()
    np.random.seed(3)
    first = Bootstrap(200, seed=7).estimate(aggregates, SCORES).tolist()
    assert np.random.rand() == wanted, "numpy's global generator is restored"
    np.random.seed(11)
    assert Bootstrap(200, seed=7).estimate(aggregates, SCORES).tolist() == first
    assert Bootstrap(200, seed=8).estimate(aggregates, SCORES).tolist() != first


def test_probability_of_improvement():
    # 1 loses to 2 and to 3; 3 beats 2 and equals 3.
    assert probability_of_improvement(np.array([[1.0], [3.0]]), np.array([[2.0], [3.0]])) == 1.5 / 4
    assert probability_of_improvement(SCORES, SCORES) == 0.5
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, (4, 6)).astype(float), rng.integers(0, 5, (3, 6)).astype(float)
    wanted = load_rliable()[1].probability_of_improvement(one, other)
    assert probability_of_improvement(one, other) == pytest.approx(wanted)
    assert Bootstrap(100).estimate(probability_of_improvement, one, other)[0, 0] == pytest.approx(wanted)


def test_performance_profile():
    scores = np.array([[0.5, 1.0], [1.0, 2.0]])
    assert performance_profile(scores, np.array([0.0, 0.5, 1.0, 2.0])).tolist() == [1.0, 0.75, 0.25, 0.0]


def test_interquartile_means_are_rliables_at_each_step():
    scores = np.random.default_rng(0).random((3, 5, 4))
    wanted = [load_rliable()[1].aggregate_iqm(scores[..., step]) for step in range(4)]
    np.testing.assert_allclose(interquartile_means(scores), wanted)


def test_better_than_random():
    # Of the 20 ways to draw 3 of 6, one is as extreme; the other way round all are.
    assert better_than_random([4, 5, 6], [1, 2, 3]) == pytest.approx(1 / 20)
    assert better_than_random([1, 2, 3], [4, 5, 6]) == 1
    assert better_than_random([0, 0], [0, 0, 0]) == 1
    assert better_than_random([-21.0] * 19 + [-20.0], [-21.0] * 40) == pytest.approx(0.08, abs=0.01)


def test_without_rliable_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(UsageError, match=r'rliable.*pip install "torchrl_glam\[report\]"'):
        Bootstrap().estimate(aggregates, SCORES)
