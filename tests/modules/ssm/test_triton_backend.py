"""The Triton kernels: under the interpreter on a CPU, and compiled for a GPU that need not be here (test_gpu.py).

Triton reads TRITON_INTERPRET when torch imports it, and interprets everything or nothing. So the tests marked
``interpreted``, and those of every backend in this folder, run in a process of their own:

    TRITON_INTERPRET=1 pytest tests/modules/ssm
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from packaging.version import Version

from tests.support.paths import ROOT
from tests.support.scans import make_inputs, values_and_gradients
from torchrl_glam.modules.ssm import (
    MambaBlock,
    available_backends,
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
    triton_backend,
    triton_kernels,
)
from torchrl_glam.modules.ssm.triton_backend import triton_scan, triton_step

SSM_TESTS, SUPPORT = ROOT / "tests" / "modules" / "ssm", ROOT / "tests" / "support"
INTERPRETED = "triton" in available_backends("cpu")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
interpreted = pytest.mark.skipif(not INTERPRETED, reason="needs TRITON_INTERPRET=1 (and triton); see the docstring")


def run(*command, **environment):
    """Run Python with this process's environment, less Triton's switch."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *map(str, command)], env={**inherited, **environment}, capture_output=True, text=True
    )


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="is what runs now")
def test_this_folder_passes_under_the_interpreter():
    if Version(version("triton")) < Version("3.7") and Version(version("numpy")) >= Version("2.4"):
        pytest.skip("the interpreter of triton < 3.7 breaks on numpy >= 2.4")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", SSM_TESTS, TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="runs without the interpreter")
def test_kernels_compile_ahead_of_time_and_fit_into_registers(tmp_path):
    sizes = triton_backend._sizes(torch.empty(512, 16))
    done = run(
        ROOT / "tests" / "support" / "compile_kernels.py",
        triton_kernels.__file__,
        json.dumps(sizes),
        TRITON_CACHE_DIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(done.stdout)
    assert len(found) >= 8
    for name, kernel in found.items():
        assert kernel["cubin"] > 1000, name
        # A thread has 255 at most; 168 leave room for 12 warps on a multiprocessor. Double precision may spill.
        if "double" not in name:
            assert kernel["stack"] == 0, (name, kernel)
            assert kernel["registers"] <= 168, (name, kernel)


def step_as_scan(u, delta, A, B, C, D, state):
    y, last = triton_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, state)
    return y[:, None], last


# One step; 4, 5 and 8, at the edges of how many states are kept; several blocks; n and d that fit no block; a huge n.
SIZES = [(2, 1, 3, 2), (3, 4, 5, 3), (1, 5, 6, 16), (2, 8, 2, 2), (2, 10, 40, 12), (1, 2, 5, 600)]


@interpreted
@pytest.mark.parametrize("without", [(), ("D",), ("state",), ("D", "state")], ids=lambda names: "no " + ",".join(names))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference_in_values_and_gradients(sizes, without):
    inputs = make_inputs(*sizes)
    for name in without:
        inputs[5 + ("D", "state").index(name)] = None
    wanted = values_and_gradients(selective_scan_reference, inputs)
    for left, right in zip(values_and_gradients(triton_scan, inputs), wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@interpreted
@pytest.mark.parametrize("batch", [2, 4, 5])
def test_partial_sums_over_several_rows(batch, monkeypatch):
    monkeypatch.setattr(triton_backend, "_MAX_PARTIAL_SUMS", 2)
    inputs = make_inputs(batch, 2, 3, 2)
    wanted = values_and_gradients(selective_scan_reference, inputs)
    for left, right in zip(values_and_gradients(triton_scan, inputs), wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@interpreted
def test_gradcheck():
    inputs = make_inputs(1, 5, 2, 2)
    assert torch.autograd.gradcheck(triton_scan, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *tensors: triton_scan(*tensors, None, None), inputs[:5], fast_mode=True)
    assert torch.autograd.gradcheck(step_as_scan, make_inputs(2, 1, 2, 2), fast_mode=True)


@interpreted
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_step_equals_the_reference(skip, track):
    u, delta, A, B, C, D, state = make_inputs(3, 1, 5, 3)
    with torch.set_grad_enabled(track):
        step = u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D if skip else None, state
        y, last = selective_scan_step(*step, backend="triton")
    wanted, wanted_last = selective_scan_reference(u, delta, A, B, C, D if skip else None, state)
    assert y.requires_grad == last.requires_grad == track
    torch.testing.assert_close(y[:, None].detach(), wanted.detach())
    torch.testing.assert_close(last.detach(), wanted_last.detach())


@interpreted
def test_strided_inputs():
    plain = make_inputs(2, 6, 5, 3)
    strided = [tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor for tensor in plain]
    assert not any(tensor.is_contiguous() for tensor in strided if tensor.dim() > 1)
    wanted = values_and_gradients(selective_scan_reference, plain)
    y, last = triton_scan(*strided)
    torch.testing.assert_close(y, wanted[0])
    torch.testing.assert_close(last, wanted[1])
    gradients = torch.autograd.grad(y.sum(), plain, retain_graph=True)  # whose gradient of y is expanded
    for left, right in zip(
        gradients, torch.autograd.grad(selective_scan_reference(*plain)[0].sum(), plain), strict=True
    ):
        torch.testing.assert_close(left, right)


@interpreted
def test_keeps_a_quarter_of_the_states_and_none_without_gradients():
    inputs, kept = make_inputs(2, 13, 5, 3), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        triton_scan(*inputs)
        assert (2, 3, 5, 3) in kept
        assert len(kept) == 8  # and the inputs
        with torch.no_grad():
            triton_scan(*inputs)
        assert len(kept) == 8


@interpreted
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_graph_break(compiler):
    inputs = make_inputs(2, 6, 5, 3)

    def scan(*tensors):
        y, last = selective_scan(*tensors, backend="triton")
        u, delta, A, B, C, D, _ = tensors
        y_next, last = selective_scan_step(u[:, 0], delta[:, 0], A, B[:, 0], C[:, 0], D, last.sin(), backend="triton")
        return torch.cat([y, y_next[:, None]], dim=1), last

    wanted = values_and_gradients(scan, inputs)
    compiled = torch.compile(scan, backend=compiler, fullgraph=True)
    for left, right in zip(values_and_gradients(compiled, inputs), wanted, strict=True):
        torch.testing.assert_close(left, right)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), wanted[:2])


@interpreted
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch 2.14's opcheck
def test_the_operators_are_registered_properly():
    inputs = make_inputs(2, 6, 5, 3)
    torch.library.opcheck(triton_backend._scan, (*inputs, True))
    torch.library.opcheck(triton_backend._scan, (*(x.detach() for x in inputs[:5]), None, None, False))
    *_, kept = triton_backend._scan(*(x.detach() for x in inputs), True)
    grad_y, u, delta, A, B, C, D, state = (x.detach() for x in (inputs[0], *inputs))
    torch.library.opcheck(triton_backend._scan_backward, (grad_y, state, u, delta, A, B, C, D, state, kept))
    torch.library.opcheck(triton_backend._scan_backward, (grad_y, None, u, delta, A, B, C, None, None, kept))


@interpreted
def test_block():
    torch.manual_seed(0)
    blocks = [MambaBlock(6, d_state=3, backend=backend).double() for backend in ("torch", "triton")]
    blocks[1].load_state_dict(blocks[0].state_dict())
    tokens = torch.randn(2, 6, 6, dtype=torch.float64)
    found = []
    for block in blocks:
        y, memory = block(tokens[:, :5])
        y_next, memory = block.step(tokens[:, 5], memory)
        loss = y.square().sum() + y_next.square().sum() + memory["ssm"].sum()
        found.append((y, y_next, memory["ssm"], *torch.autograd.grad(loss, list(block.parameters()))))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right)
