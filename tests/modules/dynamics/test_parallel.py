"""Backbones side by side, and the plain Mamba that may be one of them."""

from __future__ import annotations

import pytest
import torch

from tests.support.backbones import (
    BACKBONES,
    WIDTH,
    assert_same_memory,
    make_backbone,
    make_tokens,
    make_transformer,
    prepare,
)
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import MambaDynamics, ParallelDynamics


@pytest.fixture
def branches():
    """Three of different kinds."""
    return {name: make_backbone(name) for name in ("lmamba", "mamba", "transformer")}


def test_belief_is_the_sum_and_memory_is_each_branchs_own(branches):
    tokens, dynamics = make_tokens(6), ParallelDynamics(branches)
    beliefs, memory = dynamics(tokens)
    torch.testing.assert_close(beliefs, sum(branch(tokens)[0] for branch in branches.values()))
    assert memory.batch_size == (2,)
    assert set(memory.keys()) == set(branches)
    belief, following = dynamics.step(tokens[:, 0], memory)
    steps = {name: branch.step(tokens[:, 0], memory[name]) for name, branch in branches.items()}
    torch.testing.assert_close(belief, sum(step[0] for step in steps.values()))
    for name, branch in branches.items():
        assert_same_memory(memory[name], branch(tokens)[1])
        assert_same_memory(following[name], steps[name][1])


def test_prefill_is_delegated(branches, monkeypatch):
    dynamics, tokens, called = ParallelDynamics(branches), make_tokens(6), []
    for name, branch in branches.items():
        prefill = branch.prefill
        monkeypatch.setattr(branch, "prefill", lambda x, name=name, run=prefill: called.append(name) or run(x))
    dynamics.prefill(tokens)
    assert called == list(branches)


@pytest.mark.parametrize("variation", [None, "lmamba", "transformer"])
def test_variation_is_the_output_of_the_branch_named(branches, variation):
    tokens = make_tokens(5)
    found = ParallelDynamics(branches, variation).forward_variation(tokens)[1]
    if variation is None:
        assert found is None
    else:
        assert torch.equal(found, branches[variation](tokens)[0])


def test_branches_are_attributes_and_name_their_parameters(branches):
    dynamics = ParallelDynamics(branches)
    assert dynamics.width == WIDTH
    assert dynamics.branches == branches
    assert dynamics.lmamba is branches["lmamba"]
    wanted = [f"{name}.{key}" for name, branch in branches.items() for key in branch.state_dict()]
    assert list(dynamics.state_dict()) == wanted


def test_branches_that_cannot_be_are_refused():
    narrow, wide = make_transformer(4), make_transformer(8)
    with pytest.raises(UsageError, match=r"branches have the widths \{\}: give one branch or more, all of the same"):
        ParallelDynamics({})
    with pytest.raises(UsageError, match=r"branches have the widths \{'a': 4, 'b': 8\}"):
        ParallelDynamics({"a": narrow, "b": wide})
    with pytest.raises(UsageError, match="variation='c' is no branch: choose one of a, b, or None"):
        ParallelDynamics({"a": narrow, "b": narrow}, variation="c")
    for name in ("forward", "width", "branches", "variation", "a.b", "", "training"):
        with pytest.raises(UsageError, match=f"a branch cannot be called '{name}'"):
            ParallelDynamics({name: narrow})


@pytest.mark.parametrize("num_layers", [1, 2])
def test_plain_mamba_is_its_layers_over_the_tokens(num_layers):
    dynamics, tokens = prepare(MambaDynamics(WIDTH, num_layers=num_layers, d_state=3)), make_tokens(6)
    hidden = tokens
    for layer in dynamics.layers:
        hidden, _ = layer(hidden)
    assert dynamics.output.bias is None
    torch.testing.assert_close(dynamics(tokens)[0], hidden @ dynamics.output.weight.T)
    assert dynamics.forward_variation(tokens)[1] is None


@pytest.mark.parametrize("name", ["mamba 2", "gmamba 2"])
def test_last_layer_of_prefill_finishes_the_last_token_alone(name):
    dynamics, shapes = make_backbone(name), []
    for layer in dynamics.layers:
        layer.mamba.out_proj.register_forward_hook(lambda *call: shapes.append(call[-1].ndim))
    dynamics.prefill(make_tokens(7))
    assert shapes == [3, 2]


@pytest.mark.parametrize("name", ["gmamba", "lmamba", "mamba"])
def test_no_layer_at_all_is_refused(name):
    kind = type(BACKBONES[name](WIDTH))
    with pytest.raises(UsageError, match="num_layers=0: a Mamba branch has at least 1 layer"):
        kind(WIDTH, num_layers=0)
