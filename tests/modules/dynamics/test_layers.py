"""One Mamba layer between its norms."""

from __future__ import annotations

import pytest
import torch

from tests.support.backbones import WIDTH, layer_norm, make_tokens, prepare, unroll
from torchrl_glam.modules.dynamics import ResidualMamba


@pytest.mark.parametrize("post_norm", [True, False])
def test_residual_of_the_block(post_norm):
    layer, tokens = prepare(ResidualMamba(WIDTH, post_norm=post_norm, d_state=3)), make_tokens(5)
    mixed = layer.mamba(layer_norm(tokens, layer.norm))[0]
    wanted = tokens + (layer_norm(mixed, layer.post_norm) if post_norm else mixed)
    torch.testing.assert_close(layer(tokens)[0], wanted)
    torch.testing.assert_close(unroll(layer, tokens)[0], wanted)


@pytest.mark.parametrize("post_norm", [True, False])
def test_parameters_of_a_layer(post_norm):
    layer = ResidualMamba(WIDTH, post_norm=post_norm, d_state=5, d_conv=3, expand=4)
    norms = {"norm.weight", "norm.bias"} | ({"post_norm.weight", "post_norm.bias"} if post_norm else set())
    assert {name for name, _ in layer.named_parameters() if not name.startswith("mamba.")} == norms
    assert layer.mamba.A_log.shape == (4 * WIDTH, 5)
    assert layer.mamba.conv1d.weight.shape == (4 * WIDTH, 1, 3)


@pytest.mark.parametrize(("options", "eps"), [({}, 1e-5), ({"norm_eps": 1e-6}, 1e-6)])
def test_epsilon_of_the_inner_norm(options, eps):
    """By hand: for tokens of plus and minus a hundredth of a percent, the variance is 1e-8, and epsilon most of it."""
    layer, tokens = ResidualMamba(2, **options), torch.tensor([[[1e-4, -1e-4]]])
    seen = []
    layer.mamba.project = lambda normed: seen.append(normed) or (normed, normed)
    layer.project(tokens)
    torch.testing.assert_close(seen[0], tokens / (1e-8 + eps) ** 0.5)
    assert layer.post_norm.eps == 1e-5
