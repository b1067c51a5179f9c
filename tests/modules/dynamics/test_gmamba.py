"""What GLAM's global branch computes."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from tests.support.backbones import WIDTH, assert_same_memory, layer_norm, make_tokens, prepare, unroll
from torchrl_glam.modules import GMamba


class Shift(nn.Module):
    """A stand-in for a Mamba layer, of which the output tells the input: ``scale * x + shift``."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale, dtype=torch.float64)), shift

    def forward(self, tokens, memory=None, is_init=None):
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


def test_the_first_token_itself_at_t_0():
    """By hand: ``e_0`` is read where no change is known, and no state of it is left."""
    gmamba = GMamba(1, first_token=True).double()
    gmamba.output, gmamba.layers[0] = nn.Sequential(nn.Identity()), Shift(2.0, 1.0)
    tokens = torch.tensor([[[1.0], [4.0], [9.0]]], dtype=torch.float64)
    assert gmamba(tokens)[0].flatten().tolist() == unroll(gmamba, tokens)[0].flatten().tolist() == [3.0, 7.0, 11.0]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_first_token_changes_only_the_first_output(num_layers):
    plain, tokens = prepare(GMamba(WIDTH, num_layers, d_state=3)), make_tokens(6)
    first = prepare(GMamba(WIDTH, num_layers, first_token=True, d_state=3))
    first.load_state_dict(plain.state_dict())
    (wanted, left), (outputs, right) = plain(tokens), first(tokens)
    assert torch.equal(outputs[:, 1:], wanted[:, 1:])
    assert_same_memory(left, right)
    torch.testing.assert_close(outputs[:, 0], first.output(first.layers(tokens[:, :1])[0])[:, 0])
    stepped, memory = unroll(first, tokens)
    torch.testing.assert_close(stepped, outputs)
    assert_same_memory(memory, left)
    assert torch.equal(first(tokens[:, :1])[0], outputs[:, :1])


def test_elements_that_start_at_different_times_read_their_own_first_token():
    gmamba, tokens = prepare(GMamba(WIDTH, first_token=True, d_state=3)), make_tokens(3)
    _, memory = gmamba(tokens[:1, :2])
    memory = torch.cat([memory, gmamba.initial_memory(1)])
    came, _ = gmamba.step(tokens[:, 2], memory)
    wanted = torch.stack([gmamba(tokens[:1])[0][0, 2], gmamba(tokens[1:, 2:])[0][0, 0]])
    torch.testing.assert_close(came, wanted)
