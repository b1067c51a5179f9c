"""The causal convolution; that its two ways agree is tested through the block (test_block.py)."""

from __future__ import annotations

import pytest
import torch

from torchrl_glam.modules.ssm.convolution import causal_convolution


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolution_by_hand(dtype):
    padded = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], dtype=dtype)
    weight = torch.tensor([[[10.0, 1.0]], [[100.0, -1.0]]], dtype=dtype)
    bias = torch.tensor([0.5, 0.0], dtype=dtype)
    wanted = torch.tensor([[[1.5, -2.0], [13.5, 196.0], [35.5, 394.0]]], dtype=dtype)
    assert torch.equal(causal_convolution(padded, weight, bias), wanted)
    assert torch.equal(causal_convolution(padded, weight, None), wanted - bias)
