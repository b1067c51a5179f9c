"""The Mamba block against an implementation in plain loops, and the contract of a sequence module."""

from __future__ import annotations

import math
import operator

import pytest
import torch
from tensordict import TensorDict

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.ssm import MambaBlock

WIDTH = 6


def make_block(dtype=torch.float64, **options):
    """A small block whose every parameter matters: initial values would hide many a mistake."""
    torch.manual_seed(0)
    block = MambaBlock(WIDTH, **{"d_state": 3, **options}).to(dtype)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return block


def make_tokens(length, batch=2, dtype=torch.float64):
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def slow_block(block, tokens):
    """The block for one sequence [t d_model], number by number."""
    weights = {name: parameter.tolist() for name, parameter in block.named_parameters()}

    def linear(name, vector):
        bias = weights.get(f"{name}.bias", [0.0] * len(weights[f"{name}.weight"]))
        return [sum(map(operator.mul, row, vector)) + b for row, b in zip(weights[f"{name}.weight"], bias, strict=True)]

    def silu(value):
        return value / (1 + math.exp(-value))

    width, n, outputs = block.d_inner, block.d_state, []
    state, history = [[0.0] * n for _ in range(width)], []
    for token in tokens.tolist():
        projected = linear("in_proj", token)
        history.append(projected[:width])
        u = []
        for d in range(width):
            total = weights.get("conv1d.bias", [0.0] * width)[d]
            for lag in range(min(block.d_conv, len(history))):
                total += weights["conv1d.weight"][d][0][block.d_conv - 1 - lag] * history[-1 - lag][d]
            u.append(silu(total))
        selected = linear("x_proj", u)
        rank, B, C = selected[: -2 * n], selected[-2 * n : -n], selected[-n:]
        y = []
        for d, low in enumerate(linear("dt_proj", rank)):
            delta = math.log1p(math.exp(low))
            for i in range(n):
                decay = math.exp(-delta * math.exp(weights["A_log"][d][i]))
                state[d][i] = decay * state[d][i] + delta * B[i] * u[d]
            readout = sum(C[i] * state[d][i] for i in range(n)) + weights["D"][d] * u[d]
            y.append(readout * silu(projected[width + d]))
        outputs.append(linear("out_proj", y))
    kept = [[0.0] * width] * block.d_conv + history
    return torch.tensor(outputs), torch.tensor(kept[len(kept) - block.d_conv + 1 :]), torch.tensor(state)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"d_conv": 2, "expand": 3, "dt_rank": 2, "bias": True},
        {"conv_bias": False, "expand": 1},
        {"backend": "reference"},
    ],
    ids=["default", "sizes", "no conv bias", "reference"],
)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_equals_plain_loops(options, length):
    block, tokens = make_block(**options), make_tokens(length)
    y, memory = block(tokens)
    torch.set_default_dtype(torch.float64)
    try:
        for row in range(len(tokens)):
            wanted, conv, ssm = slow_block(block, tokens[row])
            torch.testing.assert_close(y[row], wanted)
            torch.testing.assert_close(memory["conv"][row], conv)
            torch.testing.assert_close(memory["ssm"][row], ssm)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("d_conv", [1, 2, 4])
@pytest.mark.parametrize("context", [0, 1, 2, 3, 5])
def test_step_equals_forward(context, d_conv):
    block, tokens = make_block(d_conv=d_conv), make_tokens(9)
    wanted, wanted_memory = block(tokens)
    memory = block(tokens[:, :context])[1] if context else block.initial_memory(len(tokens))
    for t in range(context, tokens.shape[1]):
        y, memory = block.step(tokens[:, t], memory)
        torch.testing.assert_close(y, wanted[:, t])
    for key in ("conv", "ssm"):
        torch.testing.assert_close(memory[key], wanted_memory[key])


def test_step_equals_forward_in_gradients():
    block, tokens = make_block(), make_tokens(6)
    weights = torch.randn(6, dtype=torch.float64)

    def gradients(y, memory):
        loss = (y * weights).sum() + memory["ssm"].sum() + memory["conv"].square().sum()
        return torch.autograd.grad(loss, list(block.parameters()))

    wanted = gradients(*block(tokens))
    first, memory = block(tokens[:, :2])
    ys = list(first.unbind(1))
    for t in range(2, 6):
        y, memory = block.step(tokens[:, t], memory)
        ys.append(y)
    for (name, _), left, right in zip(
        block.named_parameters(), gradients(torch.stack(ys, 1), memory), wanted, strict=True
    ):
        torch.testing.assert_close(left, right, msg=lambda text, name=name: f"{name}: {text}")
        assert right.abs().sum() > 0, name


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_sequence_goes_on_from_a_memory(cut):
    """In values, in the memory after it and in gradients, those through the first part's memory included."""
    block, tokens = make_block(), make_tokens(6)
    wanted, wanted_memory = block(tokens)
    first, memory = block(tokens[:, :cut])
    kept = memory.clone()
    second, last = block(tokens[:, cut:], memory)
    whole = torch.cat([first, second], 1)
    torch.testing.assert_close(whole, wanted)
    for key in ("conv", "ssm"):
        torch.testing.assert_close(last[key], wanted_memory[key])
        torch.testing.assert_close(memory[key], kept[key], rtol=0, atol=0)
    parameters = list(block.parameters())
    gradients = (torch.autograd.grad(outputs.square().sum(), parameters) for outputs in (whole, wanted))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)
    again, _ = block(tokens, block.initial_memory(len(tokens)))
    torch.testing.assert_close(again, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("changed", [0, 3, 6])
def test_forward_is_causal(changed, dtype):
    block, tokens = make_block(dtype), make_tokens(7, dtype=dtype)
    other = tokens.clone()
    other[:, changed] += 1
    before, after = block(tokens)[0], block(other)[0]
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert ((before - after)[:, changed:].abs().amax(dim=(0, 2)) > 1e-6).all()


def test_rows_of_a_batch_are_independent():
    block, tokens = make_block(), make_tokens(5, batch=4)
    torch.testing.assert_close(block(tokens)[0][2:3], block(tokens[2:3])[0])


def test_single_precision_takes_the_other_convolution_to_the_same_result():
    wanted, wanted_memory = make_block()(make_tokens(9))
    block, tokens = make_block().float(), make_tokens(9, dtype=torch.float32)
    y, memory = block(tokens)
    torch.testing.assert_close(y.double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(memory["ssm"].double(), wanted_memory["ssm"], rtol=1e-4, atol=1e-4)
    stepped = block.initial_memory(2)
    for t in range(9):
        last, stepped = block.step(tokens[:, t], stepped)
    torch.testing.assert_close(last, y[:, -1], rtol=1e-4, atol=1e-5)


def test_windows_share_the_input_projection():
    block, tokens = make_block(), make_tokens(6)
    signal, gate = (part.unfold(1, 4, 1).mT.flatten(0, 1) for part in block.project(tokens))  # (b 3, 4, d_inner)
    inner, _ = block.mix(signal, gate)
    windows = torch.stack([tokens[:, t : t + 4] for t in range(3)], dim=1).flatten(0, 1)
    torch.testing.assert_close(block.out_proj(inner), block(windows)[0])


@pytest.mark.parametrize("absent", [1, 2, 5])
def test_slots_before_the_start_leave_no_trace(absent):
    block, tokens = make_block(), make_tokens(7)
    valid = (torch.arange(7) >= absent).to(tokens.dtype).reshape(1, 7, 1).expand(2, 7, 1)
    wanted, wanted_memory = block(tokens[:, absent:])
    inner, memory = block.mix(*block.project(tokens), valid)
    torch.testing.assert_close(block.out_proj(inner)[:, absent:], wanted)
    stepped = block.initial_memory(2)
    for t in range(7):
        assert t > absent or not any(tensor.any() for tensor in stepped.values())
        inner, stepped = block.mix_step(*block.project(tokens[:, t]), stepped, valid[:, t])
    torch.testing.assert_close(block.out_proj(inner), wanted[:, -1])
    for key in ("conv", "ssm"):
        torch.testing.assert_close(memory[key], wanted_memory[key])
        torch.testing.assert_close(stepped[key], wanted_memory[key])


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_the_last_output_alone(length, tracked):
    block, tokens = make_block(), make_tokens(length)
    valid = (torch.arange(length) >= length - 3).to(tokens.dtype).reshape(1, length, 1).expand(2, length, 1)
    for mask in (None, valid):
        signal, gate = block.project(tokens)
        wanted = block.mix(signal, gate, mask)[0][:, -1]
        with torch.set_grad_enabled(tracked):
            torch.testing.assert_close(block.mix_last(signal, gate[:, -1], mask), wanted)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_memory_of_the_convolution_is_its_last_inputs(length):
    block, tokens = make_block(), make_tokens(length)
    raw = block.in_proj(tokens)[..., : block.d_inner]
    conv = block(tokens)[1]["conv"]
    filled = min(length, 3)
    torch.testing.assert_close(conv[:, 3 - filled :], raw[:, -filled:])
    assert not conv[:, : 3 - filled].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_memory(dtype):
    memory = MambaBlock(WIDTH, d_state=5, d_conv=3).to(dtype).initial_memory(7)
    assert isinstance(memory, TensorDict)
    assert memory.batch_size == (7,)
    assert {key: (tuple(value.shape), value.dtype) for key, value in memory.items()} == {
        "conv": ((7, 2, 12), dtype),
        "ssm": ((7, 12, 5), dtype),
    }
    assert not any(value.any() for value in memory.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_leaves_its_memory_alone_and_the_module_keeps_none(dtype):
    block, tokens = make_block(dtype), make_tokens(4, dtype=dtype)
    attributes = set(vars(block)) | set(dict(block.named_buffers()))
    with torch.no_grad():
        _, memory = block(tokens[:, :3])
        copy = memory.clone()
        first, new = block.step(tokens[:, 3], memory)
        new.zero_()
        block.step(tokens[:, 0], block.initial_memory(2))
        again, _ = block.step(tokens[:, 3], memory)
    assert torch.equal(first, again)
    assert all(torch.equal(memory[key], copy[key]) for key in ("conv", "ssm"))
    assert set(vars(block)) | set(dict(block.named_buffers())) == attributes


@pytest.mark.parametrize(
    ("options", "rank", "inner", "n", "kernel"),
    [({}, 3, 80, 16, 4), ({"d_state": 8, "d_conv": 2, "expand": 3, "dt_rank": 5, "bias": True}, 5, 120, 8, 2)],
)
def test_parameters_are_those_of_mamba_ssm(options, rank, inner, n, kernel):
    wanted = {
        "A_log": (inner, n),
        "D": (inner,),
        "in_proj.weight": (2 * inner, 40),
        "conv1d.weight": (inner, 1, kernel),
        "conv1d.bias": (inner,),
        "x_proj.weight": (rank + 2 * n, inner),
        "dt_proj.weight": (inner, rank),
        "dt_proj.bias": (inner,),
        "out_proj.weight": (40, inner),
    }
    if options.get("bias"):
        wanted |= {"in_proj.bias": (2 * inner,), "out_proj.bias": (40,)}
    block = MambaBlock(40, **options)
    assert {name: tuple(tensor.shape) for name, tensor in block.state_dict().items()} == wanted
    assert {name for name, _ in block.named_parameters()} == set(wanted)


def test_initial_values():
    torch.manual_seed(0)
    block = MambaBlock(512, d_state=4, dt_scale=0.5)
    torch.testing.assert_close(-block.A_log.exp(), -torch.tensor([1.0, 2, 3, 4]).expand(1024, 4))
    assert (block.D == 1).all()
    dt = torch.nn.functional.softplus(block.dt_proj.bias)
    assert dt.min() >= 0.999e-3
    assert dt.max() <= 0.1001
    assert (dt < 1e-2).float().mean().item() == pytest.approx(0.5, abs=0.05)  # log-uniform: half of them in each decade
    bound = 0.5 * 32**-0.5
    assert 0.99 * bound < block.dt_proj.weight.abs().max() <= bound
    assert block.dt_proj.weight.mean().abs() < 0.02 * bound


def test_autocast_keeps_the_memory_in_single_precision():
    block, tokens = make_block(torch.float32), make_tokens(5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, memory = block(tokens)
        stepped, after = block.step(tokens[:, 0], memory)
        y.sum().backward()
    assert y.dtype == stepped.dtype == torch.bfloat16
    assert {tensor.dtype for found in (memory, after) for tensor in found.values()} == {torch.float32}
    torch.testing.assert_close(y.float(), block(tokens)[0], rtol=0.1, atol=0.1)


def test_names_its_paper():
    assert "2312.00752" in repr(MambaBlock(WIDTH))
    assert "2312.00752" in MambaBlock.__doc__


@pytest.mark.usefixtures("without_shape_checks")
def test_errors():
    block = make_block()
    with pytest.raises(ValueError, match=r"\(2, 6\); wanted \[b t 6\]"):
        block(make_tokens(3)[:, 0])
    with pytest.raises(ValueError, match=r"\(2, 3, 6\); wanted \[b 6\]"):
        block.step(make_tokens(3), block.initial_memory(2))
    with pytest.raises(ValueError, match=r"\(2, 0, 6\); wanted"):
        block(make_tokens(0))
    with pytest.raises(ValueError, match=r"\(2, 3, 12\); wanted \[b t 6\]"):
        block(make_tokens(3).repeat(1, 1, 2))
    with pytest.raises(ValueError, match="dt_init is 'zero'; wanted"):
        MambaBlock(WIDTH, dt_init="zero")
    with pytest.raises(UsageError, match="no scan backend 'cuda'"):
        MambaBlock(WIDTH, backend="cuda")


@pytest.mark.parametrize("d_conv", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sequences_one_after_another_equal_each_alone(dtype, d_conv):
    block, tokens = make_block(dtype, d_conv=d_conv), make_tokens(9, dtype=dtype)
    _, before = block(make_tokens(3, dtype=dtype))
    begins = torch.zeros(2, 9, dtype=torch.bool)
    begins[:, [3, 5, 7]] = True
    y, memory = block(tokens, before, begins)
    parts = [block(tokens[:, :3], before), *(block(tokens[:, t : t + 2]) for t in (3, 5)), block(tokens[:, 7:])]
    torch.testing.assert_close(y, torch.cat([part for part, _ in parts], 1))
    for key in ("conv", "ssm"):
        torch.testing.assert_close(memory[key], parts[-1][1][key])
