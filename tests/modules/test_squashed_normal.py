"""The distribution of continuous actions against torch's own in float64."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.actions import HIGH, LOW, in_float64
from torchrl_glam.modules.squashed_normal import SquashedNormal


def test_log_probabilities_are_torchs():
    torch.manual_seed(0)
    loc, scale = 2 * torch.randn(200, 2), torch.rand(200, 2) + 0.1
    actions = SquashedNormal(loc, scale, LOW, HIGH)
    drawn, log_prob = actions.sample_and_log_prob()
    assert ((drawn > LOW) & (drawn < HIGH)).all()
    assert log_prob.shape == actions.log_prob(drawn).shape == (200,)
    inner = ((drawn - (LOW + HIGH) / 2) / (HIGH - LOW) * 2).abs().amax(-1) < 0.999
    assert 100 < inner.sum() < 200
    wanted = in_float64(loc, scale).log_prob(drawn.double())
    for got in (log_prob, actions.log_prob(drawn)):
        torch.testing.assert_close(got[inner].double(), wanted[inner], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (2.5, 0.3), (-1.0, 2.0)])
def test_probabilities_sum_to_one_and_entropy_is_theirs(loc, scale):
    low, high = torch.tensor([-3.0], dtype=torch.float64), torch.tensor([5.0], dtype=torch.float64)
    loc, scale = torch.full((1,), loc, dtype=torch.float64), torch.full((1,), scale, dtype=torch.float64)
    actions = SquashedNormal(loc, scale, low, high)
    grid = 1 + 4 * torch.linspace(-12, 12, 200_001, dtype=torch.float64).tanh()[:, None]
    log_density = actions.log_prob(grid)
    total = torch.trapezoid(log_density.exp(), grid[:, 0])
    entropy = torch.trapezoid(-log_density * log_density.exp(), grid[:, 0])
    torch.testing.assert_close(total.item(), 1.0, rtol=1e-4, atol=0)
    torch.manual_seed(0)
    many = SquashedNormal(loc.expand(100_000, 1), scale.expand(100_000, 1), low, high).entropy()
    assert many.shape == (100_000,)
    assert abs(many.mean() - entropy) < 4 * many.std() / math.sqrt(100_000)


def test_entropy_has_the_gradient_of_the_entropy():
    """Of a narrow distribution, which is as good as linear in its draws: log(scale * slope of the squashing)."""
    loc = torch.full((20_000, 1), 0.8, dtype=torch.float64, requires_grad=True)
    scale = torch.full((20_000, 1), 0.01, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    SquashedNormal(loc, scale, *torch.tensor([[-1.0], [1.0]], dtype=torch.float64)).entropy().sum().backward()
    inner, inner_slope = 4 * math.tanh(0.2), 1 - math.tanh(0.2) ** 2
    torch.testing.assert_close(loc.grad.mean().item(), -2 * math.tanh(inner) * inner_slope, rtol=1e-3, atol=0)
    torch.testing.assert_close(scale.grad.mean().item(), 100.0, rtol=1e-3, atol=0)


def test_it_can_be_expanded_and_updated():
    torch.manual_seed(0)
    loc, scale = torch.randn(5, 2), torch.rand(5, 2) + 0.1
    wanted = SquashedNormal(loc, scale, LOW, HIGH)
    updated = SquashedNormal(torch.zeros(5, 2), torch.ones(5, 2), LOW, HIGH)
    updated.update(loc, scale)
    for actions, shape in ((wanted.expand((3, 5)), (3, 5)), (updated, (5,))):
        assert type(actions) is SquashedNormal
        assert actions.batch_shape == shape
        assert actions.entropy().shape == shape
        drawn = actions.sample()
        assert drawn.shape == (*shape, 2)
        assert torch.equal(actions.log_prob(drawn), wanted.log_prob(drawn))
        for name in ("loc", "scale", "deterministic_sample"):
            assert torch.equal(getattr(actions, name), getattr(wanted, name).expand(*shape, 2)), name


def test_its_support_is_within_the_bounds():
    support = SquashedNormal(torch.zeros(2), torch.ones(2), LOW, HIGH).support
    assert support.event_dim == 1
    middle = (LOW + HIGH) / 2
    candidates = torch.stack([LOW, middle, HIGH, torch.stack([middle[0], HIGH[1] + 1])])
    assert support.check(candidates).tolist() == [True, True, True, False]
