"""The probability that an episode continues."""

from __future__ import annotations

import torch

from torchrl_glam.modules.continuation import Continuation
from torchrl_glam.modules.heads import BinaryHead


def test_it_is_that_of_no_end(shake):
    head, belief = shake(BinaryHead(5, 8)), torch.randn(3, 7, 5)
    ends = torch.sigmoid(head(belief))
    torch.testing.assert_close(Continuation(head)(belief), 1 - ends)
    assert ends.std() > 0.01
