"""All backends of the scan on a CUDA device, against the reference in double precision: pytest -m gpu."""

from __future__ import annotations

import pytest
import torch

from tests.support.scans import make_inputs, values_and_gradients, weigh
from tests.support.updates import assert_close_in_norm
from torchrl_glam.modules.ssm import available_backends, selective_scan, selective_scan_reference, selective_scan_step
from torchrl_glam.modules.ssm.triton_backend import triton_scan

pytestmark = pytest.mark.gpu
BACKENDS = available_backends("cuda")
SIZES = [(32, 64, 512, 16), (2000, 4, 512, 16), (1024, 16, 512, 16)]
TOLERANCE = 1e-5
NAMES = ("y", "last state", "u", "delta", "A", "B", "C", "D", "state")


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_backends_agree_with_double_precision(backend, sizes, with_state):
    """In single precision, 1e-5 of the greatest value; on a CPU (interpreted kernels, torch) it was 8e-7 at most."""
    if backend == "mamba_ssm":
        pytest.skip("has no state to start from, and no gradient of the last one")
    inputs = make_inputs(*sizes, torch.float32, "cuda")
    if not with_state:
        inputs[6] = None
    doubles = [None if x is None else x.detach().double().requires_grad_() for x in inputs]
    wanted = values_and_gradients(selective_scan_reference, doubles)
    got = values_and_gradients(lambda *tensors: selective_scan(*tensors, backend=backend), inputs)
    for name, left, right in zip(NAMES, got, wanted, strict=False):
        assert_close_in_norm(left, right, TOLERANCE, name)
    if backend == "triton":
        again = values_and_gradients(lambda *tensors: selective_scan(*tensors, backend=backend), inputs)
        assert all(torch.equal(left, right) for left, right in zip(got, again, strict=True))


@pytest.mark.skipif("mamba_ssm" not in BACKENDS, reason="mamba_ssm and its extension are missing")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_mamba_ssm_agrees_with_double_precision(sizes):
    inputs = make_inputs(*sizes, torch.float32, "cuda")[:6]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    y, last = selective_scan(*inputs, backend="mamba_ssm")
    wanted, wanted_last = selective_scan_reference(*doubles)
    assert_close_in_norm(y, wanted, TOLERANCE, "y")
    assert_close_in_norm(last, wanted_last, TOLERANCE, "last state")
    gradients = torch.autograd.grad(weigh(y), inputs), torch.autograd.grad(weigh(wanted), doubles)
    for name, left, right in zip(NAMES[2:], *gradients, strict=False):
        assert_close_in_norm(left, right, TOLERANCE, name)


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_agrees_with_double_precision(backend, track):
    u, delta, A, B, C, D, state = make_inputs(1024, 1, 512, 16, torch.float32, "cuda")
    wanted, wanted_last = selective_scan_reference(*(x.detach().double() for x in (u, delta, A, B, C, D, state)))
    with torch.set_grad_enabled(track):
        y, last = selective_scan_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, state, backend=backend)
    assert_close_in_norm(y[:, None], wanted, TOLERANCE, "y")
    assert_close_in_norm(last, wanted_last, TOLERANCE, "last state")


@pytest.mark.skipif("triton" not in BACKENDS, reason="triton is not installed")
def test_double_precision_is_exact_and_a_graph_captures_the_scan():
    inputs = make_inputs(2, 13, 40, 12, device="cuda")
    for left, right in zip(
        values_and_gradients(triton_scan, inputs), values_and_gradients(selective_scan_reference, inputs), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        wanted = triton_scan(*inputs)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            got = triton_scan(*inputs)
        graph.replay()
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
