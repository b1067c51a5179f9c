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


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("window", [1, 4])
def test_only_the_current_token_before_the_first_full_window(num_layers, window):
    plain, tokens = prepare(LMamba(WIDTH, num_layers, window, d_state=3)), make_tokens(6)
    full = prepare(LMamba(WIDTH, num_layers, window, partial_windows=False, d_state=3))
    full.load_state_dict(plain.state_dict())
    outputs = full(tokens)[0]
    assert torch.equal(outputs[:, window - 1 :], plain(tokens)[0][:, window - 1 :])
    for t in range(window - 1):
        torch.testing.assert_close(outputs[:, t], plain(tokens[:, t : t + 1])[0][:, 0])
        assert t == 0 or not torch.allclose(outputs[:, t], plain(tokens)[0][:, t])
    torch.testing.assert_close(unroll(full, tokens)[0], outputs)
    for time in (1, 2, 3, 4, 6):
        torch.testing.assert_close(full.prefill(tokens[:, :time])[0], outputs[:, time - 1])
