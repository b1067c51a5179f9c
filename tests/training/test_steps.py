"""One optimizer step, and the check of what it is made from."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from torchrl_glam.training import (
    check_finite,
    optimizer_step,
)


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
