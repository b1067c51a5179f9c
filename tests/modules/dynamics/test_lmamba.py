"""What GLAM's local branch computes."""

from __future__ import annotations

import pytest
import torch

from tests.support.backbones import WIDTH, make_tokens, prepare, unroll
from torchrl_glam.modules import LMamba


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 7])
def test_windows_in_one_call_equal_one_window_at_a_time(num_layers, window, time):
    lmamba, tokens = prepare(LMamba(WIDTH, num_layers, window, d_state=3)), make_tokens(time)
    wanted = []
    for row in tokens:
        for t in range(time):
            hidden = row[None, max(0, t - window + 1) : t + 1]
            for layer in lmamba.layers:
                hidden, _ = layer(hidden)
            wanted.append(lmamba.output.weight @ hidden[0, -1])
    wanted = torch.stack(wanted).unflatten(0, (2, time))
    assert lmamba.output.bias is None
    torch.testing.assert_close(lmamba(tokens)[0], wanted)
    torch.testing.assert_close(unroll(lmamba, tokens)[0], wanted)


def test_lmamba_forgets_what_left_its_window():
    lmamba, tokens = prepare(LMamba(WIDTH, window=4, d_state=3)), make_tokens(8)
    other = tokens.clone()
    other[:, 1] += torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    changed = (lmamba(tokens)[0] - lmamba(other)[0]).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [False, True, True, True, True, False, False, False]
