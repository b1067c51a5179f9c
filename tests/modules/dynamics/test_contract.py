"""What every backbone keeps to: step == forward, causality, gradients, memory, precision."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from tests.support.backbones import (
    BACKBONES,
    WIDTH,
    assert_same_memory,
    layout,
    make_backbone,
    make_tokens,
    unroll,
)
from tests.support.updates import assert_close_in_norm
from torchrl_glam.modules import SequenceBackbone

every_backbone = pytest.mark.parametrize("name", BACKBONES)


@every_backbone
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_step_unrolled_equals_forward(name, dtype, tolerance):
    backbone, tokens = make_backbone(name, dtype), make_tokens(9, dtype=dtype)
    beliefs, memory = backbone(tokens)
    stepped, memory_of_steps = unroll(backbone, tokens)
    assert beliefs.shape == tokens.shape
    assert beliefs.dtype == dtype
    torch.testing.assert_close(stepped, beliefs, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:
        assert_same_memory(memory, memory_of_steps)


@every_backbone
@pytest.mark.parametrize("context", [1, 2, 3, 4, 5, 6])
def test_memory_of_a_context_is_that_of_its_steps_and_goes_on_as_forward(name, context):
    backbone, tokens = make_backbone(name), make_tokens(11)
    wanted, wanted_memory = backbone(tokens)
    _, memory = backbone(tokens[:, :context])
    _, memory_of_steps = unroll(backbone, tokens[:, :context])
    assert memory.batch_size == (2,)
    assert layout(memory) == layout(backbone.initial_memory(2)), "an environment's specs hold at every step"
    assert_same_memory(memory, memory_of_steps)
    beliefs, memory = unroll(backbone, tokens[:, context:], memory)
    torch.testing.assert_close(beliefs, wanted[:, context:])
    assert_same_memory(memory, wanted_memory)


@every_backbone
@pytest.mark.parametrize("context", [1, 2, 3, 4, 7])
def test_prefill_is_the_end_of_forward(name, context):
    backbone, tokens = make_backbone(name), make_tokens(context)
    beliefs, wanted_memory = backbone(tokens)
    belief, memory = backbone.prefill(tokens)
    torch.testing.assert_close(belief, beliefs[:, -1])
    assert_same_memory(memory, wanted_memory)


@every_backbone
@pytest.mark.parametrize("changed", [0, 2, 5])
def test_forward_is_causal(name, changed):
    backbone, tokens = make_backbone(name), make_tokens(7)
    other = tokens.clone()
    other[:, changed] += torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    before, after = backbone(tokens)[0], backbone(other)[0]
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before - after)[:, changed + 1].abs().max() > 1e-6


@every_backbone
def test_gradients_of_steps_are_those_of_forward(name):
    backbone, tokens = make_backbone(name), make_tokens(7).requires_grad_()
    weights = make_tokens(7, seed=2)

    def gradients(beliefs):
        return torch.autograd.grad((beliefs * weights).sum(), [tokens, *backbone.parameters()])

    names = ["tokens", *(name for name, _ in backbone.named_parameters())]
    for name, left, right in zip(
        names, gradients(unroll(backbone, tokens)[0]), gradients(backbone(tokens)[0]), strict=True
    ):
        torch.testing.assert_close(left, right, msg=lambda text, name=name: f"{name}: {text}")
        assert right.abs().sum() > 0, name


@every_backbone
def test_gradients_equal_finite_differences(name):
    backbone, tokens = make_backbone(name), make_tokens(5, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda tokens: backbone(tokens)[0], tokens, atol=1e-5)
    memory = backbone(tokens[:, :3].detach())[1]
    assert torch.autograd.gradcheck(lambda token: backbone.step(token, memory)[0], tokens[:, 3], atol=1e-5)


@every_backbone
def test_step_leaves_its_memory_alone_and_the_module_keeps_none(name):
    backbone, tokens = make_backbone(name), make_tokens(4)
    state = set(vars(backbone)) | set(dict(backbone.named_buffers()))
    for memory in (backbone(tokens[:, :3])[1], backbone.initial_memory(2)):
        copy = memory.clone()
        first, new = backbone.step(tokens[:, 3].clone(), memory)  # the new memory may hold the token itself
        assert_same_memory(memory, copy)
        new.apply_(lambda leaf: leaf.fill_(1))
        unroll(backbone, make_tokens(3, seed=5))
        assert_same_memory(memory, copy)
        assert torch.equal(backbone.step(tokens[:, 3], memory)[0], first)
    assert set(vars(backbone)) | set(dict(backbone.named_buffers())) == state


@every_backbone
def test_elements_of_a_batch_may_begin_and_restart_at_different_times(name):
    backbone, tokens = make_backbone(name), make_tokens(9, batch=3)
    starts = {0: [0], 1: [0, 2], 2: [0, 1, 6]}  # element: steps at which it begins anew
    memory, beliefs = backbone.initial_memory(3), []
    for t, token in enumerate(tokens.unbind(1)):
        fresh = backbone.initial_memory(3)
        memory = torch.stack([(fresh if t in starts[i] else memory)[i] for i in range(3)])
        belief, memory = backbone.step(token, memory)
        beliefs.append(belief)
    for i, begins in starts.items():
        ends = [*begins[1:], 9]
        wanted = torch.cat([backbone(tokens[i : i + 1, b:e])[0][0] for b, e in zip(begins, ends, strict=True)])
        torch.testing.assert_close(torch.stack(beliefs, 1)[i], wanted)


@every_backbone
def test_elements_of_a_batch_are_independent(name):
    backbone, tokens = make_backbone(name), make_tokens(6, batch=4)
    torch.testing.assert_close(backbone(tokens)[0][2:3], backbone(tokens[2:3])[0])


@every_backbone
def test_initial_memory_is_empty(name):
    memory = make_backbone(name).initial_memory(5)
    assert isinstance(memory, TensorDict)
    assert memory.batch_size == (5,)
    assert all(leaf.shape[0] == 5 and not leaf.any() for leaf in memory.values(True, True))


@every_backbone
@pytest.mark.parametrize("time", [1, 5])
def test_autocast_keeps_the_dtypes_of_the_memory_and_is_close(name, time):
    """So that an environment's specs hold, and a compiled step is compiled once."""
    backbone, tokens = make_backbone(name, torch.float32), make_tokens(time + 1, dtype=torch.float32)
    wanted = make_backbone(name)(tokens.double())[0][:, -1]
    memory_layout = layout(backbone.initial_memory(2))
    reduced = tokens.bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        context = reduced[:, :time]
        for memory in (backbone(context)[1], backbone.prefill(context)[1], unroll(backbone, context)[1]):
            assert layout(memory) == memory_layout
            belief, memory = backbone.step(reduced[:, -1], memory)
            assert layout(memory) == memory_layout
            assert_close_in_norm(belief, wanted, 0.1, "belief")


def test_a_backbone_without_such_a_branch_has_no_variation():
    class Echo(SequenceBackbone):
        def forward(self, tokens):
            return tokens, self.initial_memory(len(tokens))

        def step(self, token, memory):
            return token, memory

        def initial_memory(self, batch_size):
            return TensorDict({}, [batch_size])

    beliefs, variation, _ = Echo(WIDTH).forward_variation(make_tokens(3))
    assert torch.equal(beliefs, make_tokens(3))
    assert variation is None
