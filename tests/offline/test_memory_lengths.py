"""How long a model remembers: the formula, which blocks count, the table and the picture."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.decisions import CONTEXT, make_network, make_windows
from tests.support.offline_results import colours
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.memory_lengths import COLOURS, lengths_table, memory_lengths, plot_lengths


def constant_steps(network, size=0.25):
    """Let every step size be ``size``, whatever comes in."""
    for branch in (branch for layer in network.backbone.layers for branch in layer.branches.values()):
        torch.nn.init.zeros_(branch.mamba.dt_proj.weight)
        torch.nn.init.constant_(branch.mamba.dt_proj.bias, math.log(math.expm1(size)))
        branch.mamba.A_log.data.copy_(torch.arange(1, branch.mamba.d_state + 1).log())
    return network


def test_a_length_is_one_over_step_size_times_decay():
    lengths = memory_lengths(constant_steps(make_network("mambadm")), make_windows(2, CONTEXT))
    assert sorted(lengths) == [(0, "global"), (0, "local"), (1, "global"), (1, "local")]
    for values in lengths.values():
        assert values.shape == (16, 3)
        torch.testing.assert_close(values[0], 4 / torch.tensor([1.0, 2, 3], dtype=torch.double))
    row = lengths_table(lengths).iloc[0]
    assert row[["layer", "branch", "elements", "quantile_0.5"]].tolist() == [1, "global", 48, pytest.approx(2.0)]


def test_a_shorter_last_piece_counts_as_the_tokens_that_it_has():
    network, windows = make_network("mambadm"), make_windows(2, 5)  # 15 tokens, pieces of 4
    got = memory_lengths(network, windows)[0, "local"]
    mamba, tokens = network.backbone.layers[0].branches["local"].mamba, []
    mamba.dt_proj.register_forward_hook(lambda module, inputs, output: tokens.append(output.flatten(0, -2)))
    with torch.no_grad():
        network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))
    step = torch.nn.functional.softplus(torch.cat(tokens)).mean(0)
    assert len(torch.cat(tokens)) == 30
    torch.testing.assert_close(got, 1 / (step[:, None] * mamba.A_log.detach().exp()))


def test_one_branch_and_none():
    assert sorted(memory_lengths(make_network("dmamba"), make_windows(2, CONTEXT))) == [(0, "global"), (1, "global")]
    with pytest.raises(UsageError, match="DecisionTransformerActor has no Mamba"):
        memory_lengths(make_network("dt"), make_windows(2, CONTEXT))


def test_the_picture_has_both_branches(tmp_path):
    lengths = memory_lengths(make_network("mambadm"), make_windows(2, CONTEXT))
    plot_lengths(tmp_path / "lengths.png", lengths, {"a window": 18.0, "a piece": 4.0}, "made up")
    assert {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS.values()} <= colours(tmp_path / "lengths.png")
