"""The contract of a sequence backbone, and what GLAM's two branches compute."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from torchrl_glam.modules.dynamics import GLAMDynamics, GMamba, LMamba, ResidualMamba, SequenceBackbone, SlidingWindow

WIDTH = 6
BACKBONES = {
    "default": {},
    "depth 2+2": {"global_layers": 2, "local_layers": 2},
    "no post norm": {"post_norm": False},
    "window 3": {"window": 3},
}
every_backbone = pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES)


def prepare(module, dtype=torch.float64):
    """Noise on every parameter, so that each matters."""
    generator = torch.Generator().manual_seed(0)
    module = module.to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator).to(dtype))
    return module


def make_backbone(options, dtype=torch.float64):
    torch.manual_seed(0)
    return prepare(GLAMDynamics(WIDTH, d_state=3, **options), dtype)


def make_tokens(time, batch=2, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def unroll(backbone, tokens, memory=None):
    """Beliefs [b t d] and the memory of single steps."""
    memory = backbone.initial_memory(len(tokens)) if memory is None else memory
    beliefs = []
    for token in tokens.unbind(1):
        belief, memory = backbone.step(token, memory)
        beliefs.append(belief)
    return torch.stack(beliefs, 1), memory


def assert_same_memory(left, right):
    keys = set(left.keys(True, True))
    assert keys == set(right.keys(True, True))
    assert len(keys) > 0
    for key in keys:
        assert left[key].dtype == right[key].dtype, key
        torch.testing.assert_close(left[key], right[key], msg=lambda text, key=key: f"{key}: {text}")


def layer_norm(x, norm):
    """The formula."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + norm.eps) ** 0.5 * norm.weight + norm.bias


# The contract


@every_backbone
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_step_unrolled_equals_forward(options, dtype, tolerance):
    backbone, tokens = make_backbone(options, dtype), make_tokens(9, dtype=dtype)
    beliefs, memory = backbone(tokens)
    stepped, memory_of_steps = unroll(backbone, tokens)
    assert beliefs.shape == tokens.shape
    assert beliefs.dtype == dtype
    torch.testing.assert_close(stepped, beliefs, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:
        assert_same_memory(memory, memory_of_steps)


@every_backbone
@pytest.mark.parametrize("context", [1, 2, 3, 4, 5, 6])
def test_memory_of_a_context_is_that_of_its_steps_and_goes_on_as_forward(options, context):
    backbone, tokens = make_backbone(options), make_tokens(11)
    wanted, wanted_memory = backbone(tokens)
    _, memory = backbone(tokens[:, :context])
    _, memory_of_steps = unroll(backbone, tokens[:, :context])
    assert memory.batch_size == (2,)
    assert_same_memory(memory, memory_of_steps)
    beliefs, memory = unroll(backbone, tokens[:, context:], memory)
    torch.testing.assert_close(beliefs, wanted[:, context:])
    assert_same_memory(memory, wanted_memory)


@every_backbone
@pytest.mark.parametrize("context", [1, 2, 3, 4, 7])
def test_prefill_is_the_end_of_forward(options, context):
    backbone, tokens = make_backbone(options), make_tokens(context)
    beliefs, wanted_memory = backbone(tokens)
    belief, memory = backbone.prefill(tokens)
    torch.testing.assert_close(belief, beliefs[:, -1])
    assert_same_memory(memory, wanted_memory)


@every_backbone
@pytest.mark.parametrize("changed", [0, 2, 5])
def test_forward_is_causal(options, changed):
    backbone, tokens = make_backbone(options), make_tokens(7)
    other = tokens.clone()
    other[:, changed] += torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    before, after = backbone(tokens)[0], backbone(other)[0]
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert ((before - after)[:, changed:].abs().amax((0, 2)) > 1e-6).all()


@every_backbone
def test_gradients_of_steps_are_those_of_forward(options):
    backbone, tokens = make_backbone(options), make_tokens(7).requires_grad_()
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
def test_gradients_equal_finite_differences(options):
    backbone, tokens = make_backbone(options), make_tokens(5, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda tokens: backbone(tokens)[0], tokens, atol=1e-5)
    memory = backbone(tokens[:, :3].detach())[1]
    assert torch.autograd.gradcheck(lambda token: backbone.step(token, memory)[0], tokens[:, 3], atol=1e-5)


@every_backbone
def test_step_leaves_its_memory_alone_and_the_module_keeps_none(options):
    backbone, tokens = make_backbone(options), make_tokens(4)
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
def test_elements_of_a_batch_may_begin_and_restart_at_different_times(options):
    backbone, tokens = make_backbone(options), make_tokens(9, batch=3)
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
def test_elements_of_a_batch_are_independent(options):
    backbone, tokens = make_backbone(options), make_tokens(6, batch=4)
    torch.testing.assert_close(backbone(tokens)[0][2:3], backbone(tokens[2:3])[0])


@every_backbone
def test_initial_memory_is_empty(options):
    memory = make_backbone(options).initial_memory(5)
    assert isinstance(memory, TensorDict)
    assert memory.batch_size == (5,)
    assert all(leaf.shape[0] == 5 and not leaf.any() for leaf in memory.values(True, True))


def test_belief_is_the_sum_of_the_branches_and_variation_the_global_one():
    backbone, tokens = make_backbone({}), make_tokens(6)
    beliefs, variation, memory = backbone.forward_variation(tokens)
    torch.testing.assert_close(variation, backbone.gmamba(tokens)[0])
    torch.testing.assert_close(beliefs, backbone.gmamba(tokens)[0] + backbone.lmamba(tokens)[0])
    assert torch.equal(backbone(tokens)[0], beliefs)
    assert_same_memory(memory, backbone(tokens)[1])


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
        self.scale, self.shift = scale, shift

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


# SlidingWindow


@pytest.mark.parametrize("window", [1, 3, 5])
def test_sliding_window_restarts_on_the_last_tokens(window):
    backbone, tokens = make_backbone({}), make_tokens(8)
    sliding = SlidingWindow(backbone, window)
    stepped, memory = unroll(sliding, tokens)
    for t in range(8):
        wanted = backbone(tokens[:, max(0, t - window + 1) : t + 1])[0][:, -1]
        torch.testing.assert_close(stepped[:, t], wanted)
    torch.testing.assert_close(stepped[:, :window], backbone(tokens)[0][:, :window])
    assert not torch.allclose(stepped[:, window:], backbone(tokens)[0][:, window:]), "the past is lost"
    assert torch.equal(memory["tokens"], tokens[:, -window:])


@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_sliding_window_goes_on_from_a_context(context):
    backbone, tokens = make_backbone({}), make_tokens(9)
    sliding = SlidingWindow(backbone, 3)
    beliefs, memory = sliding(tokens[:, :context])
    torch.testing.assert_close(beliefs, backbone(tokens[:, :context])[0])
    assert_same_memory(memory, unroll(sliding, tokens[:, :context])[1])
    torch.testing.assert_close(unroll(sliding, tokens[:, context:], memory)[0], unroll(sliding, tokens)[0][:, context:])


def test_sliding_window_leaves_its_memory_alone_and_shares_parameters():
    backbone, tokens = make_backbone({}), make_tokens(4)
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
