"""The categorical latent against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.modules.latent import categorical_entropy, sample_one_hot, unimix_logits


def test_unimix_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]], dtype=torch.float64)
    wanted = [[0.99 * 0.25 + 0.005, 0.99 * 0.75 + 0.005], [0.5, 0.5]]
    torch.testing.assert_close(unimix_logits(logits).exp(), torch.tensor(wanted, dtype=torch.float64))
    wanted = [[0.8 * 0.25 + 0.1, 0.8 * 0.75 + 0.1], [0.5, 0.5]]
    torch.testing.assert_close(unimix_logits(logits, 0.2).exp(), torch.tensor(wanted, dtype=torch.float64))


def test_unimix_bounds_every_class_from_below() -> None:
    log_probabilities = unimix_logits(torch.tensor([1e4, -1e4, 0.0, 0.0]))
    assert log_probabilities[0].item() == pytest.approx(math.log(0.99 + 0.0025), abs=1e-6)
    assert log_probabilities[1:].tolist() == pytest.approx([math.log(0.0025)] * 3, rel=1e-6)


def test_unimix_of_nothing_is_the_log_softmax() -> None:
    logits = torch.tensor([0.0, math.log(3.0), -200.0])
    assert unimix_logits(logits, 0.0).tolist() == pytest.approx([math.log(0.25), math.log(0.75), -200 - math.log(4)])


@pytest.mark.parametrize("unimix", [0.0, 0.01])
@pytest.mark.parametrize(
    ("came", "wanted"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_unimix_is_computed_in_single_precision_at_least(unimix: float, came: torch.dtype, wanted: torch.dtype) -> None:
    assert unimix_logits(torch.randn(2, 3, 4).to(came), unimix).dtype == wanted


def test_unimixed_log_probabilities_are_their_own_logits() -> None:
    log_probabilities = unimix_logits(torch.randn(5, 3, 4, dtype=torch.float64))
    torch.testing.assert_close(log_probabilities.log_softmax(-1), log_probabilities)


def test_gradient_is_that_of_the_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 2, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, 2, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((sample_one_hot(logits) * weights).sum(), logits)
    exponentials = logits.detach().exp()
    p = exponentials / exponentials.sum(-1, keepdim=True)
    torch.testing.assert_close(gradient, p * (weights - (p * weights).sum(-1, keepdim=True)))


def chi_square(samples: Tensor, probabilities: Tensor) -> float:
    expected = len(samples) * probabilities
    return ((samples.sum(0) - expected) ** 2 / expected).sum().item()


@pytest.mark.parametrize("requires_grad", [False, True])
def test_frequencies(requires_grad: bool) -> None:
    torch.manual_seed(0)
    p = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    samples = sample_one_hot(p.log().expand(20_000, 2, 3).clone().requires_grad_(requires_grad)).detach()
    assert ((samples == 0) | (samples == 1)).all()
    assert (samples.sum(-1) == 1).all()
    for k in range(2):
        assert chi_square(samples[:, k], p[k]) < 13.8, "2 degrees of freedom: exceeded once in 1000"
    joint = (samples[:, 0, :, None] * samples[:, 1, None, :]).flatten(1)
    assert chi_square(joint, (p[0, :, None] * p[1]).flatten()) < 26.1, "independent; 8 degrees of freedom"


def test_temperature_sharpens() -> None:
    torch.manual_seed(0)
    p = torch.tensor([0.6, 0.3, 0.1])
    sharpened = p.square() / p.square().sum()
    assert chi_square(sample_one_hot(p.log().expand(20_000, 3), temperature=0.5), sharpened) < 13.8
    assert sample_one_hot(p.log().expand(1000, 3), temperature=1e-3)[:, 0].all()


def test_unnormalised_logits_give_the_same_draws() -> None:
    logits = torch.randn(50, 2, 4)
    torch.manual_seed(3)
    first = sample_one_hot(logits)
    torch.manual_seed(3)
    assert torch.equal(sample_one_hot(logits.log_softmax(-1) + 5.0), first)


def test_stays_random_under_deterministic_exploration() -> None:
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        samples = sample_one_hot(torch.tensor([0.6, 0.4]).log().expand(1000, 2))
    assert 330 < samples[:, 1].sum() < 470


def test_dtype_is_that_of_the_input() -> None:
    assert sample_one_hot(torch.randn(2, 3, 4, dtype=torch.float64)).dtype == torch.float64


def test_entropy_by_hand() -> None:
    p = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[0.1, 0.9], [0.2, 0.8]]], dtype=torch.float64)
    wanted = [
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) + math.log(2),
        -(0.1 * math.log(0.1) + 0.9 * math.log(0.9) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)),
    ]
    assert categorical_entropy(p.log()).tolist() == pytest.approx(wanted)
    assert categorical_entropy(torch.full((3, 32, 32), -math.log(32))).tolist() == pytest.approx(
        [32 * math.log(32)] * 3
    )
