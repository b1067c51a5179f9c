"""The selective scan: every backend against the oracle, the oracle against numbers worked out by hand."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from torchrl_glam.modules.ssm import (
    available_backends,
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
)
from torchrl_glam.modules.ssm.scan import selective_scan_last
from torchrl_glam.modules.ssm.torch_backend import torch_scan

NAMES = ("u", "delta", "A", "B", "C", "D", "state")
BATCH, WIDTH, STATE = 3, 5, 4
BACKENDS = available_backends("cpu")  # triton among them under its interpreter: test_triton_backend.py


def make_inputs(length, dtype=torch.float64, seed=0):
    """Random inputs, one leaf with gradient for each of ``NAMES``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = (
        normal(BATCH, length, WIDTH),
        torch.nn.functional.softplus(normal(BATCH, length, WIDTH)),
        -normal(WIDTH, STATE).exp(),
        normal(BATCH, length, STATE),
        normal(BATCH, length, STATE),
        normal(WIDTH),
        normal(BATCH, WIDTH, STATE),
    )
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def run_with_gradients(scan, inputs, weigh_y=1.0, weigh_state=1.0):
    """Values, and the gradients of a random weighting of the outputs with respect to all inputs."""
    y, state = scan(*inputs)
    generator = torch.Generator().manual_seed(1)
    loss = 0.0
    for output, weight in ((y, weigh_y), (state, weigh_state)):
        if weight:
            loss = loss + weight * (output * torch.randn(output.shape, generator=generator, dtype=y.dtype)).sum()
    return y, state, torch.autograd.grad(loss, inputs, allow_unused=True)


def assert_same(got, wanted, names=NAMES):
    for name, left, right in zip(names, got, wanted, strict=True):
        if left is None and right is None:
            continue  # what does not reach the output has no gradient
        right = torch.zeros_like(left) if right is None else right
        left = torch.zeros_like(right) if left is None else left
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("length", [1, 4, 16, 64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_equals_reference_with_all_gradients(backend, length):
    inputs = make_inputs(length)
    got = run_with_gradients(lambda *args: selective_scan(*args, backend=backend), inputs)
    wanted = run_with_gradients(selective_scan_reference, inputs)
    assert_same(got[:2], wanted[:2], ("y", "last state"))
    assert_same(got[2], wanted[2])
    assert all(gradient.abs().sum() > 0 for gradient in got[2])


@pytest.mark.parametrize(("weigh_y", "weigh_state"), [(1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_one_output_alone(backend, weigh_y, weigh_state):
    inputs = make_inputs(6)
    scan = functools.partial(selective_scan, backend=backend)
    got = run_with_gradients(scan, inputs, weigh_y, weigh_state)
    wanted = run_with_gradients(selective_scan_reference, inputs, weigh_y, weigh_state)
    assert_same(got[2], wanted[2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_of_one_input_alone(backend, name):
    inputs = make_inputs(6)
    wanted = run_with_gradients(selective_scan_reference, inputs)[2][NAMES.index(name)]
    alone = [tensor.detach() for tensor in inputs]
    alone[NAMES.index(name)].requires_grad_()
    y, state = selective_scan(*alone, backend=backend)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(output.shape, generator=generator, dtype=y.dtype) for output in (y, state)]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    torch.testing.assert_close(torch.autograd.grad(loss, alone[NAMES.index(name)])[0], wanted)


def test_gradcheck():
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 2), (2, 3, 2), (2, 2), (2, 3, 2), (2, 3, 2), (2,), (2, 2, 2)]
    inputs = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    inputs[1], inputs[2] = inputs[1].abs() + 0.1, -inputs[2].abs() - 0.1
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(torch_scan, inputs)
    assert torch.autograd.gradcheck(lambda *args: torch_scan(*args, None, None), inputs[:5])


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_steps_by_hand(backend):
    # decays exp(-ln 2 * (1, 2)) = (1/2, 1/4)
    # h_1 = 1/2 * 4 + 1 * 2 * 3 = 8     y_1 = 1 * 8 + 10 * 3 = 38
    # h_2 = 1/4 * 8 + 2 * 1 * 5 = 12    y_2 = 2 * 12 + 10 * 5 = 74
    def column(*values):
        return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1).requires_grad_()

    u, delta, B, C = column(3, 5), column(1, 2), column(2, 1), column(1, 2)
    A, D, state = torch.full((1, 1), -math.log(2), dtype=torch.float64), torch.tensor([10.0]), column(4)
    y, last = selective_scan(u, delta, A, B, C, D, state, backend=backend)
    torch.testing.assert_close(y.flatten(), torch.tensor([38.0, 74.0], dtype=torch.float64))
    torch.testing.assert_close(last.flatten(), torch.tensor([12.0], dtype=torch.float64))
    # dy_2/dh_0 = 2 * 1/4 * 1/2; dy_2/du = (2 * 1/4 * 1 * 2, 2 * 2 * 1 + 10); dy_2/dC_2 = h_2
    # dy_2/ddelta_2 = 2 * (-ln 2 * 1/4 * 8 + 1 * 5)
    got = torch.autograd.grad(y[0, 1, 0], (state, u, C, delta))
    assert got[0].item() == pytest.approx(0.25)
    assert got[1].flatten().tolist() == pytest.approx([1.0, 14.0])
    assert got[2].flatten().tolist() == pytest.approx([0.0, 12.0])
    assert got[3][0, 1, 0].item() == pytest.approx(10 - 4 * math.log(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_states_by_hand(backend):
    # decays (1/2, 1/4); h_1 = (1, 2), y_1 = 3; h_2 = (1/2 + 3 * 2, 1/2 - 1 * 2) = (6.5, -1.5), y_2 = 2 * 6.5 - 4 * 1.5
    u, delta = torch.tensor([[[1.0], [2.0]]]), torch.ones(1, 2, 1)
    A = torch.tensor([[-math.log(2), -math.log(4)]])
    B, C = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]]), torch.tensor([[[1.0, 1.0], [2.0, 4.0]]])
    y, last = selective_scan(u, delta, A, B, C, backend=backend)
    torch.testing.assert_close(y.flatten(), torch.tensor([3.0, 7.0]))
    torch.testing.assert_close(last, torch.tensor([[[6.5, -1.5]]]))


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_equal_scan_with_gradients(backend, skip):
    inputs = make_inputs(5)

    def unrolled(u, delta, A, B, C, D, state):
        ys = []
        for t in range(u.shape[1]):
            step = u[:, t], delta[:, t], A, B[:, t], C[:, t], D if skip else None, state
            y, state = selective_scan_step(*step, backend=backend)
            ys.append(y)
        return torch.stack(ys, dim=1), state

    def scan(u, delta, A, B, C, D, state):
        return selective_scan_reference(u, delta, A, B, C, D if skip else None, state)

    got, wanted = run_with_gradients(unrolled, inputs), run_with_gradients(scan, inputs)
    assert_same(got[:2], wanted[:2], ("y", "last state"))
    assert_same(got[2], wanted[2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scan_goes_on_from_its_last_state(backend):
    u, delta, A, B, C, D, state = make_inputs(7)
    whole, last = selective_scan(u, delta, A, B, C, D, state, backend=backend)
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        part = (tensor[:, start:stop] for tensor in (u, delta))
        y, state = selective_scan(*part, A, B[:, start:stop], C[:, start:stop], D, state, backend=backend)
        torch.testing.assert_close(y, whole[:, start:stop])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_last_output_alone(backend, skip, track):
    inputs = make_inputs(5)[: 6 if skip else 5]
    wanted = selective_scan_reference(*inputs)[0][:, -1]
    with torch.set_grad_enabled(track):
        y = selective_scan_last(*inputs, backend=backend)
    torch.testing.assert_close(y.detach(), wanted.detach())
    assert y.requires_grad == track
    if track:
        weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
        gradients = (torch.autograd.grad((out * weights).sum(), inputs) for out in (y, wanted))
        assert_same(*gradients, names=NAMES[: len(inputs)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_and_outputs_share_no_memory(backend):
    inputs = [tensor.detach() for tensor in make_inputs(3)]
    copies = [tensor.clone() for tensor in inputs]
    _, last = selective_scan(*inputs, backend=backend)
    step = inputs[0][:, 0], inputs[1][:, 0], inputs[2], *(x[:, 0] for x in inputs[3:5]), *inputs[5:]
    _, stepped = selective_scan_step(*step, backend=backend)
    last.zero_(), stepped.zero_()
    for name, tensor, copy in zip(NAMES, inputs, copies, strict=True):
        assert torch.equal(tensor, copy), name


def test_keeps_only_inputs_and_states():
    length, kept = 8, []
    inputs = make_inputs(length)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        selective_scan(*inputs, backend="torch")
    states = (length + 1) * BATCH * WIDTH * STATE
    assert states <= sum(kept) <= states + 2 * sum(tensor.numel() for tensor in inputs)


def test_without_gradient_keeps_nothing():
    inputs, kept = make_inputs(8), []
    wanted = selective_scan_reference(*inputs)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        with torch.no_grad():
            got = selective_scan(*inputs)
        plain = selective_scan(*(tensor.detach() for tensor in inputs))
    assert not kept
    for outputs in (got, plain):
        assert not any(output.requires_grad for output in outputs)
        assert_same(outputs, wanted, ("y", "last state"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_and_stiff_sequences_stay_finite(backend):
    u, delta, A, B, C, D, state = make_inputs(64, torch.float32)
    y, last, gradients = run_with_gradients(
        lambda *args: selective_scan(*args, backend=backend),
        [u, (delta * 30).detach().requires_grad_(), A, B, C, D, state],
    )
    assert all(tensor.isfinite().all() for tensor in (y, last, *gradients))


def test_single_precision_is_close_to_double():
    y, last = selective_scan(*make_inputs(16, torch.float32))
    wanted = selective_scan_reference(*make_inputs(16))
    torch.testing.assert_close(y.double(), wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last.double(), wanted[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend):
    inputs = make_inputs(6, torch.float32)
    step = [tensor[:, 0] if tensor.shape[1:2] == (6,) else tensor for tensor in inputs]
    wanted = (*selective_scan(*inputs, backend=backend), *selective_scan_step(*step, backend=backend))
    with torch.autocast("cpu", torch.bfloat16):
        got = (*selective_scan(*inputs, backend=backend), *selective_scan_step(*step, backend=backend))
    for left, right in zip(got, wanted, strict=True):
        assert left.dtype == torch.float32
        assert torch.equal(left, right)


def test_half_precision_computes_in_single():
    inputs = [tensor.detach() for tensor in make_inputs(5, torch.bfloat16)]
    y, last = selective_scan(*inputs)
    wanted, wanted_last = selective_scan_reference(*(tensor.float() for tensor in inputs))
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y, wanted.bfloat16())
    torch.testing.assert_close(last, wanted_last)


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("u", (BATCH, 5), r"u has shape \(3, 5\); wanted \[b t d\]"),
        ("u", (BATCH, 0, WIDTH), r"u has shape \(3, 0, 5\)"),
        ("delta", (BATCH, 5, 1), r"delta has shape \(3, 5, 1\); wanted \(3, 5, 5\)"),
        ("A", (WIDTH + 1, STATE), r"A has shape \(6, 4\); wanted \[d n\] with d = 5"),
        ("B", (BATCH, 5, 1), r"B has shape \(3, 5, 1\); wanted \(3, 5, 4\)"),
        ("C", (1, 5, STATE), r"C has shape \(1, 5, 4\); wanted \(3, 5, 4\)"),
        ("D", (1,), r"D has shape \(1,\); wanted \(5,\)"),
        ("state", (1, WIDTH, STATE), r"state has shape \(1, 5, 4\); wanted \(3, 5, 4\)"),
    ],
)
@pytest.mark.parametrize("scan", [selective_scan, selective_scan_reference])
@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_shapes(scan, name, shape, text):
    inputs = make_inputs(5)
    inputs[NAMES.index(name)] = torch.zeros(shape)
    with pytest.raises(ValueError, match=text) as error:
        scan(*inputs)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("without_shape_checks")
def test_step_refuses_a_sequence_and_a_state_of_another_batch():
    u, delta, A, B, C, D, state = make_inputs(1)
    with pytest.raises(ValueError, match=r"u has shape \(3, 1, 5\); wanted \[b d\]"):
        selective_scan_step(u, delta, A, B, C, D, state)
    with pytest.raises(ValueError, match=r"state has shape \(1, 5, 4\); wanted \(3, 5, 4\)"):
        selective_scan_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, state[:1])
