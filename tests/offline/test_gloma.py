"""GLoMa: its formula, its pieces, its switches. What every backbone keeps to is tested with the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.backbones import WIDTH, layer_norm, make_tokens, prepare, unroll
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import check_backbone
from torchrl_glam.objectives import GLAMModelLoss, total_loss
from torchrl_glam.offline import GLoMa, GLoMaStack
from torchrl_glam.offline.gloma import LocalBranch


def make_block(**options):
    torch.manual_seed(0)
    return prepare(GLoMa(WIDTH, **{"d_state": 3, "local_length": 4, **options}))


@pytest.mark.parametrize("length", [1, 3, 6])
@pytest.mark.parametrize("count", [1, 3, 5, 6, 7, 12, 14])
def test_local_branch_is_mamba_over_each_piece_by_itself(length, count):
    branch = prepare(LocalBranch(WIDTH, length, d_state=3))
    tokens = make_tokens(count)
    pieces = [branch.mamba(layer_norm(piece, branch.norm))[0] for piece in tokens.split(length, 1)]
    outputs, memory = branch(tokens)
    torch.testing.assert_close(outputs, torch.cat(pieces, 1))
    assert memory["position"].tolist() == [count % length] * 2
    torch.testing.assert_close(unroll(branch, tokens)[0], outputs)


@pytest.mark.parametrize("branches", ["both", "global", "local"])
def test_a_piece_knows_nothing_of_those_before_it_but_by_the_global_branch(branches):
    block, tokens = make_block(branches=branches), make_tokens(10)
    other = tokens.clone()
    other[:, 2] += torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    change = (block(tokens)[0] - block(other)[0]).abs().amax((0, 2))
    assert not change[:2].any()
    assert change[2:4].min() > 1e-6
    assert (change[4:].min() > 1e-9) if branches != "local" else not change[4:].any()


@pytest.mark.parametrize(
    ("branches", "fusion"), [("both", "sum"), ("both", "learned"), ("global", "sum"), ("local", "sum")]
)
def test_block_is_the_formula(branches, fusion):
    block, tokens = make_block(branches=branches, fusion=fusion), make_tokens(9)
    weights = dict(zip(("global", "local"), (1, 1) if fusion == "sum" else block.weights, strict=True))
    hidden = tokens
    for name, branch in block.branches.items():
        normalised = layer_norm(tokens, branch.norm)
        if name == "global":
            mixed = branch.mamba(normalised)[0]
        else:
            mixed = torch.cat([branch.mamba(piece)[0] for piece in normalised.split(4, 1)], 1)
        hidden = hidden + weights[name] * mixed
    first, _, second = block.feed_forward
    inner = nn.functional.gelu(layer_norm(hidden, block.feed_forward_norm) @ first.weight.T + first.bias)
    assert inner.shape[-1] == 4 * WIDTH
    torch.testing.assert_close(block(tokens)[0], hidden + inner @ second.weight.T + second.bias)


def test_learned_fusion_begins_as_the_sum():
    torch.manual_seed(0)
    summed = GLoMa(WIDTH).eval()
    torch.manual_seed(0)
    learned = GLoMa(WIDTH, fusion="learned").eval()
    tokens = make_tokens(7, dtype=torch.float32)
    assert torch.equal(summed(tokens)[0], learned(tokens)[0])
    assert len(list(learned.parameters())) == len(list(summed.parameters())) + 1
    learned(tokens)[0].square().sum().backward()
    assert learned.weights.grad.all()
    with torch.no_grad():
        learned.weights.zero_()
    learned.reset_parameters()
    assert torch.equal(summed(tokens)[0], learned(tokens)[0])


def test_stack_ends_in_a_norm_and_chains_its_blocks():
    stack, tokens = prepare(GLoMaStack(WIDTH, num_layers=2, d_state=3, local_length=4)), make_tokens(9)
    first, second = stack.layers
    torch.testing.assert_close(stack(tokens)[0], layer_norm(second(first(tokens)[0])[0], stack.norm))


def test_a_step_forgets_the_piece_before_whatever_it_holds():
    """Nothing of a finished piece may leak, not even numbers that are not finite."""
    branch, tokens = prepare(LocalBranch(WIDTH, 3, d_state=3)), make_tokens(4)
    _, memory = branch(tokens[:, :3])
    poisoned = memory.clone()
    for name in ("conv", "ssm"):
        poisoned[name].fill_(torch.nan)
    assert torch.equal(branch.step(tokens[:, 3], memory)[0], branch.step(tokens[:, 3], poisoned)[0])


def test_the_memory_after_a_context_is_no_view_of_those_of_all_pieces():
    branch = LocalBranch(WIDTH, 3, d_state=3)
    _, memory = branch(make_tokens(30, dtype=torch.float32))
    assert memory["ssm"].untyped_storage().nbytes() == memory["ssm"].numel() * 4


def test_dropout_of_the_branches_only_in_training():
    block, tokens = make_block(dropout=0.5), make_tokens(7)
    exact = block(tokens)[0]
    assert torch.equal(block(tokens)[0], exact)
    block.train()
    torch.manual_seed(0)
    assert not torch.equal(block(tokens)[0], exact)
    with torch.no_grad():
        block.feed_forward[-1].weight.zero_()
        block.feed_forward[-1].bias.zero_()
    dropped = (block(tokens)[0] == tokens).double().mean().item()  # there nothing but the residual is left
    assert dropped == pytest.approx(0.5, abs=0.15)


def test_any_leading_length_keeps_the_contract():
    for length in (1, 2, 7):
        check_backbone(prepare(GLoMaStack(WIDTH, num_layers=2, local_length=length, d_state=3)), length=9)


def test_it_serves_glam_as_a_backbone(make_world_model, make_batch):
    world_model = make_world_model(GLoMaStack(8, num_layers=1, d_state=3))
    terms = GLAMModelLoss(world_model, variation_coeff=0.0)(make_batch())
    total_loss(terms).backward()
    assert world_model.dynamics.layers[0].branches["local"].mamba.in_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "max"}, "fusion is 'max': choose one of sum, learned"),
        ({"branches": "none"}, "branches is 'none': choose one of both, global, local"),
        ({"branches": "local", "fusion": "learned"}, "fusion='learned' weighs two branches, branches is 'local'"),
        ({"local_length": 0}, "local_length=0: a piece of the sequence has at least 1 token"),
        ({"num_layers": 0}, "num_layers=0: give at least 1 block"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        GLoMaStack(WIDTH, **options)
