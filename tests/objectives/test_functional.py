"""Each formula against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from torchrl_glam.modules.heads import symlog_two_hot_loss
from torchrl_glam.objectives import functional as formulas


def test_reconstruction_sums_over_pixels_and_averages_over_time() -> None:
    frames = torch.zeros(1, 2, 3, 2, 1)  # b t channels h w
    frames[0, 0, :, 1, 0] = torch.tensor([1.0, 0.2, 0.0])
    reconstruction = torch.zeros(1, 2, 3, 2, 1)
    reconstruction[0, 0, :, 1, 0] = torch.tensor([0.5, 0.2, 0.3])  # squares .25, 0, .09
    reconstruction[0, 1, 2, 0, 0] = 2.0  # square 4
    assert formulas.reconstruction_loss(reconstruction, frames).item() == pytest.approx((0.34 + 4.0) / 2)


def test_moving_pixels_differ_from_the_step_before_or_after() -> None:
    pixels = torch.full((1, 4, 3, 1, 4), 100)  # b t channels h w
    pixels[0, 2, 1, 0, 0] = 121  # in one channel for one step, by more than .08 * 255 = 20.4
    pixels[0, 2, :, 0, 1] = 120  # by less
    pixels[0, 1:, :, 0, 2] = 0  # for good, and downwards
    moving = formulas.moving_pixels(pixels / 255)
    assert moving.shape == (1, 4, 1, 1, 4)
    assert moving[0, :, 0, 0].int().T.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert formulas.moving_pixels(pixels / 255, threshold=0.07)[0, :, 0, 0, 1].tolist() == [False, True, True, True]


def test_foreground_differs_from_the_background() -> None:
    background = torch.full((3, 1, 3), 100)
    frames = background.repeat(1, 2, 1, 1, 1)
    frames[0, 1, 1, 0, 0] = 79  # in one channel, by more than .08 * 255 = 20.4
    frames[0, :, :, 0, 1] = 120  # by less
    found = formulas.foreground_pixels(frames / 255, background / 255)
    assert found.shape == (1, 2, 1, 1, 3)
    assert found[0, :, 0, 0].tolist() == [[False, False, False], [True, False, False]]
    assert formulas.foreground_pixels(frames / 255, background / 255, 0.07)[0, :, 0, 0, 1].all()


def test_pixels_with_weights() -> None:
    frames, reconstruction, weight = torch.zeros(1, 2, 3, 1, 2), torch.zeros(1, 2, 3, 1, 2), torch.ones(1, 2, 1, 1, 2)
    reconstruction[0, 0, 2, 0, 0] = 0.5
    reconstruction[0, 1, 1, 0, 1] = 2.0
    weight[0, 0, 0, 0, 0] = 4.0
    assert formulas.reconstruction_loss(reconstruction, frames, weight).item() == pytest.approx((4 * 0.25 + 4.0) / 2)
    assert formulas.reconstruction_loss(reconstruction, frames).item() == pytest.approx((0.25 + 4.0) / 2)


def test_gradient_of_the_weighted_reconstruction() -> None:
    torch.manual_seed(0)
    frames, weight = torch.rand(2, 3, 3, 2, 2, dtype=torch.float64), torch.rand(2, 3, 1, 2, 2, dtype=torch.float64)
    reconstruction = torch.rand(2, 3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda drawn: formulas.reconstruction_loss(drawn, frames, weight), reconstruction)


def test_focal_loss_is_cross_entropy_times_the_share_that_is_missed() -> None:
    logits, labels = torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([[True, True], [False, False]])
    given = [0.5, 1 / (1 + math.exp(-2.0)), 1 - 1 / (1 + math.exp(1.0)), 1 - 1 / (1 + math.exp(-0.5))]
    wanted = sum(-((1 - p) ** 2) * math.log(p) for p in given) / 2
    assert formulas.focal_loss(logits, labels).item() == pytest.approx(wanted, rel=1e-5)
    cross_entropy = -sum(map(math.log, given)) / 2
    assert formulas.focal_loss(logits, labels, focus=0.0).item() == pytest.approx(cross_entropy, rel=1e-5)


def test_two_hot_cross_entropy_in_symlog_space() -> None:
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(4, 3)
    bins = torch.tensor([-1.0, 0.0, 1.0])
    value = torch.tensor([0.0, math.expm1(0.25), -math.expm1(0.5), 1e6])  # symlog: 0, 1/4, -1/2, beyond the last bin
    a, b, c = -math.log(0.2), -math.log(0.3), -math.log(0.5)
    wanted = (b + (0.75 * b + 0.25 * c) + (0.5 * a + 0.5 * b) + c) / 4
    assert symlog_two_hot_loss(logits, value, bins).item() == pytest.approx(wanted, rel=1e-5)
    assert symlog_two_hot_loss(logits, value[:, None], bins).item() == pytest.approx(wanted, rel=1e-5)


def test_termination_is_binary_cross_entropy() -> None:
    logits = torch.tensor([[0.0], [2.0], [-1.0]])
    ends = torch.tensor([[True], [True], [False]])
    wanted = (math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 3
    assert formulas.termination_loss(logits, ends).item() == pytest.approx(wanted)


def test_kl_against_torch_distributions() -> None:
    torch.manual_seed(0)
    posterior, prior = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64).log_softmax(-1).unbind(0)
    wanted = kl_divergence(Categorical(logits=posterior), Categorical(logits=prior)).sum(-1).mean()
    dynamics, representation = formulas.balanced_kl(posterior, prior)
    for kl in (dynamics, representation, formulas.kl_to_target(posterior, prior)):
        torch.testing.assert_close(kl, wanted)


def test_each_kl_stops_one_gradient() -> None:
    posterior, prior = torch.randn(2, 3, 2, 4).log_softmax(-1).unbind(0)
    for index, (moves_posterior, moves_prior) in enumerate([(False, True), (True, False), (False, True)]):
        q, p = posterior.clone().requires_grad_(), prior.clone().requires_grad_()
        terms = (*formulas.balanced_kl(q, p), formulas.kl_to_target(q, p))
        gradients = torch.autograd.grad(terms[index], [q, p], allow_unused=True)
        moved = [gradient is not None and gradient.abs().sum() > 0 for gradient in gradients]
        assert moved == [moves_posterior, moves_prior]


def test_logit_variation_turns_one_posterior_into_the_next() -> None:
    p = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.2, 0.8]]).reshape(1, 3, 1, 2)
    came = formulas.logit_variation(p.log())
    assert came.shape == (1, 2, 1, 2)
    assert came.exp().flatten().tolist() == pytest.approx([0.2, 0.8, 0.5, 0.5])
    torch.testing.assert_close((p[:, :-1].log() + came).softmax(-1), p[:, 1:])


def test_latent_variation_by_hand() -> None:
    state = torch.eye(3)[torch.tensor([0, 2, 2])].reshape(1, 3, 1, 3)
    total = math.exp(-1) + 1 + math.e
    wanted = [math.exp(-1) / total, 1 / total, math.e / total, 1 / 3, 1 / 3, 1 / 3]
    assert formulas.latent_variation(state).exp().flatten().tolist() == pytest.approx(wanted)


def test_released_next_value_by_hand() -> None:
    value = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    next_value = torch.tensor([20.0, 30.0, 4.0]).reshape(1, 3, 1)
    came = formulas.released_next_value(value, next_value, 0.75)
    assert came.flatten().tolist() == pytest.approx([1.0, 2.0, 0.25 * 3 + 0.75 * 4])
