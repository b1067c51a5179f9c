"""A backbone that restarts on its last tokens."""

from __future__ import annotations

import pytest
import torch

from tests.support.backbones import WIDTH, assert_same_memory, make_backbone, make_tokens, unroll
from torchrl_glam.modules import SlidingWindow

every_backbone = pytest.mark.parametrize("name", ["glam", "transformer 2"])


@every_backbone
@pytest.mark.parametrize("window", [1, 3, 5])
def test_sliding_window_restarts_on_the_last_tokens(name, window):
    backbone, tokens = make_backbone(name), make_tokens(8)
    sliding = SlidingWindow(backbone, window)
    stepped, memory = unroll(sliding, tokens)
    for t in range(8):
        wanted = backbone(tokens[:, max(0, t - window + 1) : t + 1])[0][:, -1]
        torch.testing.assert_close(stepped[:, t], wanted)
    torch.testing.assert_close(stepped[:, :window], backbone(tokens)[0][:, :window])
    assert not torch.allclose(stepped[:, window:], backbone(tokens)[0][:, window:]), "the past is lost"
    assert torch.equal(memory["tokens"], tokens[:, -window:])


@every_backbone
@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_sliding_window_goes_on_from_a_context(name, context):
    backbone, tokens = make_backbone(name), make_tokens(9)
    sliding = SlidingWindow(backbone, 3)
    beliefs, memory = sliding(tokens[:, :context])
    torch.testing.assert_close(beliefs, backbone(tokens[:, :context])[0])
    assert_same_memory(memory, unroll(sliding, tokens[:, :context])[1])
    torch.testing.assert_close(unroll(sliding, tokens[:, context:], memory)[0], unroll(sliding, tokens)[0][:, context:])


def test_sliding_window_leaves_its_memory_alone_and_shares_parameters():
    backbone, tokens = make_backbone("glam"), make_tokens(4)
    sliding = SlidingWindow(backbone)
    assert sliding.window == 8
    assert sliding.width == WIDTH
    assert {id(parameter) for parameter in sliding.parameters()} == {
        id(parameter) for parameter in backbone.parameters()
    }
    assert sliding.initial_memory(3)["tokens"].shape == (3, 8, WIDTH)
    memory = sliding(tokens[:, :3])[1]
    copy = memory.clone()
    sliding.step(tokens[:, 3], memory)
    assert_same_memory(memory, copy)
