"""The textbook scan is the scan."""

from __future__ import annotations

import torch

from torchrl_glam.modules.ssm import selective_scan_reference
from torchrl_glam.tools.benchmarks.scans import scan_inputs, textbook_scan


def test_the_textbook_scan_is_the_scan():
    inputs = [tensor.detach().double().requires_grad_() for tensor in scan_inputs(2, 9, 5, 3)]
    y, state = textbook_scan(*inputs)
    wanted, wanted_state = selective_scan_reference(*inputs)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(state, wanted_state)
    grads, wanted_grads = (torch.autograd.grad(output.square().sum(), inputs) for output in (y, wanted))
    torch.testing.assert_close(grads, wanted_grads)
