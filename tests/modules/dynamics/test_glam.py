"""What GLAM's two branches and their layers compute."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from tests.support.backbones import (
    WIDTH,
    assert_same_memory,
    layer_norm,
    make_backbone,
    make_tokens,
    prepare,
    unroll,
)
from torchrl_glam.modules import GMamba, LMamba, ParallelDynamics
from torchrl_glam.modules.dynamics import ResidualMamba


def test_belief_is_the_sum_of_the_branches_and_variation_the_global_one():
    backbone, tokens = make_backbone("glam"), make_tokens(6)
    beliefs, variation, memory = backbone.forward_variation(tokens)
    torch.testing.assert_close(variation, backbone.gmamba(tokens)[0])
    torch.testing.assert_close(beliefs, backbone.gmamba(tokens)[0] + backbone.lmamba(tokens)[0])
    assert torch.equal(backbone(tokens)[0], beliefs)
    assert_same_memory(memory, backbone(tokens)[1])
    assert isinstance(backbone, ParallelDynamics)
    assert list(dict.fromkeys(name.split(".")[0] for name in backbone.state_dict())) == ["gmamba", "lmamba"]


# One layer


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


# GMamba


class Shift(nn.Module):
    """A stand-in for a Mamba layer, of which the output tells the input: ``scale * x + shift``."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale, dtype=torch.float64)), shift

    def forward(self, tokens):
        return self.scale * tokens + self.shift, self.initial_memory(len(tokens))

    def step(self, token, memory, valid=None):
        return self.scale * token + self.shift, memory

    def initial_memory(self, batch_size):
        return TensorDict({}, [batch_size])


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([Shift(1.0, 0.0)], [0.0, 3.0, 5.0, 7.0, -16.0]),
        ([Shift(2.0, 0.0), Shift(1.0, 1.0)], [0.0, 7.0, 11.0, 15.0, -31.0]),  # chained: 2 delta + 1
    ],
    ids=["one", "two chained"],
)
def test_output_at_t_reads_the_change_from_t_minus_1_to_t(layers, wanted):
    gmamba = GMamba(1, len(layers)).double()
    gmamba.output = nn.Sequential(nn.Identity())
    for index, layer in enumerate(layers):
        gmamba.layers[index] = layer
    tokens = torch.tensor([[[1.0], [4.0], [9.0], [16.0], [0.0]]], dtype=torch.float64)
    assert gmamba(tokens)[0].flatten().tolist() == wanted
    assert unroll(gmamba, tokens)[0].flatten().tolist() == wanted


@pytest.mark.parametrize("num_layers", [1, 2])
def test_gmamba_is_its_layers_over_the_differences(num_layers):
    gmamba, tokens = prepare(GMamba(WIDTH, num_layers, d_state=3)), make_tokens(6)
    hidden = torch.stack([tokens[:, t] - tokens[:, t - 1] for t in range(1, 6)], 1)
    for layer in gmamba.layers:
        hidden, _ = layer(hidden)
    linear, norm, _ = gmamba.output
    hidden = layer_norm(hidden @ linear.weight.T, norm)
    assert linear.bias is None
    torch.testing.assert_close(gmamba(tokens)[0][:, 1:], hidden * hidden.sigmoid())
    assert not gmamba(tokens)[0][:, 0].any(), "no change is known at the first token"


def test_gmamba_sees_changes_only():
    gmamba, tokens = prepare(GMamba(WIDTH, d_state=3)), make_tokens(6)
    wanted = gmamba(tokens)[0]
    torch.testing.assert_close(gmamba(tokens + 3.5)[0], wanted)
    torch.testing.assert_close(unroll(gmamba, tokens + 3.5)[0], wanted)
    assert not torch.allclose(gmamba(tokens * 2)[0], wanted)


def test_all_that_gmamba_says_is_variation():
    gmamba, tokens = prepare(GMamba(WIDTH, d_state=3)), make_tokens(5)
    beliefs, variation, memory = gmamba.forward_variation(tokens)
    assert torch.equal(beliefs, gmamba(tokens)[0])
    assert torch.equal(variation, beliefs)
    assert_same_memory(memory, gmamba(tokens)[1])


def test_gmamba_over_one_token_alone():
    gmamba, tokens = prepare(GMamba(WIDTH, d_state=3)), make_tokens(1)
    outputs, memory = gmamba(tokens)
    assert outputs.shape == (2, 1, WIDTH)
    assert not outputs.any()
    assert torch.equal(memory["previous"], tokens[:, 0])
    assert memory["started"].all()


# LMamba


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
