"""One optimizer step, and the check of what it is made from."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from torchrl_glam.training import check_finite, optimizer_step
from torchrl_glam.training.steps import keep_first_bad, skip_if_not_finite


@pytest.mark.parametrize(("max_norm", "moved"), [(1.0, [0.6, 0.8]), (100.0, [3.0, 4.0])])
def test_gradients_are_clipped_by_their_global_norm(max_norm, moved):
    first, second = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    first.grad = torch.tensor(1e6)  # of an earlier step
    norm = optimizer_step(3 * first + 4 * second, [first, second], optimizer, max_norm)
    assert norm.item() == pytest.approx(5.0), "the norm before clipping"
    assert not norm.requires_grad
    assert [-first.item(), -second.item()] == pytest.approx(moved, rel=1e-4)


def test_terms_that_are_not_finite_are_named():
    metrics = TensorDict(
        {"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(torch.nan), "kl": torch.tensor(-torch.inf)}
    )
    with pytest.raises(FloatingPointError, match=r"not finite: loss_b, kl;"):
        check_finite(metrics)
    check_finite(metrics.select("loss_a"))


def test_a_gradient_that_is_not_finite_moves_nothing_on_a_cpu():
    weight = nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([weight], lr=1.0, fused=True)
    with pytest.raises(FloatingPointError, match="not finite: grad_norm"):  # the loss is 0, its slope infinite
        optimizer_step(weight.sqrt(), [weight], optimizer, 1.0)
    assert weight.item() == 0.0


def test_a_step_that_is_not_finite_is_skipped_by_a_flag_and_so_are_all_after_it():
    """As a GPU does it, which is not asked: the flag is a tensor, and torch's fused optimizers read it."""
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer, seen = torch.optim.Adam([weight], lr=0.1, fused=True), []
    for gradient in (1.0, float("nan"), 1.0, float("inf")):
        weight.grad = torch.full((2,), gradient)
        norm = skip_if_not_finite(weight.grad.sum(), weight.grad.norm(), optimizer)
        optimizer.step()
        seen.append((weight[0].item(), norm.isfinite().item(), optimizer.state[weight]["step"].item()))
    assert seen[0][1:] == (True, 1.0)
    assert seen[0][0] < 1.0
    assert seen[1:] == [(seen[0][0], False, 1.0)] * 3, "weights, means and counts stay"
    for state in optimizer.state[weight].values():
        assert state.isfinite().all()


def test_the_metrics_of_the_step_that_was_not_finite_wait_for_the_log():
    last = TensorDict({"loss_a": torch.tensor(0.0), "loss_b": torch.tensor(1.0), "grad_norm": torch.tensor(1.0)})
    for loss, norm in ((1.0, 1.0), (2.0, 1.0), (torch.nan, torch.nan), (3.0, torch.nan), (4.0, torch.nan)):
        new = TensorDict({"loss_a": torch.tensor(loss), "loss_b": torch.tensor(1.0), "grad_norm": torch.tensor(norm)})
        last = keep_first_bad(new, last)
        if loss in (1.0, 2.0):
            assert last["loss_a"] == loss
    with pytest.raises(FloatingPointError, match="not finite: loss_a, grad_norm;"):
        check_finite(last)
