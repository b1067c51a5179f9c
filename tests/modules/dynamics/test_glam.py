"""The sum of GLAM's two branches."""

from __future__ import annotations

import torch

from tests.support.backbones import assert_same_memory, make_backbone, make_tokens
from torchrl_glam.modules import ParallelDynamics


def test_belief_is_the_sum_of_the_branches_and_variation_the_global_one():
    backbone, tokens = make_backbone("glam"), make_tokens(6)
    beliefs, variation, memory = backbone.forward_variation(tokens)
    torch.testing.assert_close(variation, backbone.gmamba(tokens)[0])
    torch.testing.assert_close(beliefs, backbone.gmamba(tokens)[0] + backbone.lmamba(tokens)[0])
    assert torch.equal(backbone(tokens)[0], beliefs)
    assert_same_memory(memory, backbone(tokens)[1])
    assert isinstance(backbone, ParallelDynamics)
    assert list(dict.fromkeys(name.split(".")[0] for name in backbone.state_dict())) == ["gmamba", "lmamba"]
