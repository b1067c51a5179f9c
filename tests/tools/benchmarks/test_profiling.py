"""Operations by name, and traces."""

from __future__ import annotations

import json

import pytest
import torch

from tests.support.benchmarking import CPU
from torchrl_glam.tools.benchmarks.components import Component
from torchrl_glam.tools.benchmarks.profiling import is_matrix_operation, share_outside_matrices, trace_components


@pytest.mark.parametrize(
    ("name", "is_matrix"),
    [
        ("aten::addmm", True),
        ("aten::mm", True),
        ("aten::linear", True),
        ("aten::convolution_backward", True),
        ("aten::mkldnn_convolution", True),
        ("mkl::_mkl_linear", True),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", True),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128>", True),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", True),
        ("aten::mul", False),
        ("aten::native_batch_norm", False),
        ("aten::cudnn_batch_norm", False),
        ("aten::convert_something", False),
        ("Optimizer.step#Adam.step", False),
    ],
)
def test_operations_are_told_apart_by_name(name, is_matrix):
    assert is_matrix_operation(name) is is_matrix


def test_the_share_outside_is_between_nothing_and_all():
    a, b = torch.randn(2, 400, 400).unbind()
    assert share_outside_matrices(lambda: a @ b, CPU) < 0.5
    assert share_outside_matrices(lambda: a.exp(), CPU) == 1.0


def test_a_trace_names_the_components(tmp_path):
    trace = tmp_path / "trace.json"
    matrix = torch.randn(50, 50)
    component = Component("a product", lambda: matrix @ matrix)
    assert "aten::mm" in trace_components([component], CPU, str(trace))
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"a product", "aten::mm"} <= names
