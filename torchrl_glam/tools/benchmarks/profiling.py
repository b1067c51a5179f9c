"""The time of a call by operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from torchrl_glam.tools.benchmarks.components import Component

# Operations of ATen, oneDNN and MKL; kernels of cuBLAS, cuDNN and CUTLASS. Not the layout changes in between.
MATRIX = re.compile(
    r"conv(?!ert)|(^|::|_)(mm|addmm|bmm|baddbmm|linear|matmul)\b|mkldnn|mkl_|gemm|gemv|cutlass|xmma|nvjet|splitKreduce"
    r"|fprop|dgrad|wgrad",
    re.IGNORECASE,
)


def is_matrix_operation(name: str) -> bool:
    """Return True if a profiled operation or kernel is a convolution or a matrix product.

    Examples:
        >>> [is_matrix_operation(name) for name in ("aten::addmm", "aten::mkldnn_convolution", "aten::add_")]
        [True, True, False]
    """
    return MATRIX.search(name) is not None


def share_outside_matrices(run: Callable[[], object], device: torch.device) -> float:
    """Return the share of a call's time outside convolutions and matrix products, by self time of operations.

    On CUDA the time is the kernels'. A compiled graph's fused loops count as outside.
    """
    with _profiler(device) as profiler:
        run()
        _synchronize(device)
    times = [(event.key, _self_time(event, device)) for event in profiler.key_averages()]
    total = sum(seconds for _, seconds in times)
    return sum(seconds for name, seconds in times if not is_matrix_operation(name)) / total


def trace_components(components: Iterable[Component], device: torch.device, path: str) -> str:
    """Run each component once, write a chrome trace to ``path``; return a table of the operations that took longest."""
    with _profiler(device) as profiler:
        for component in components:
            with record_function(component.name):
                component.run()
                _synchronize(device)
    profiler.export_chrome_trace(path)
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _profiler(device: torch.device) -> profile:
    return profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])])


def _self_time(event: Any, device: torch.device) -> float:
    if device.type != "cuda":
        return event.self_cpu_time_total
    # An annotation spans the kernels below it, and an operation claims those it launched: count only kernels.
    is_kernel = event.device_type == DeviceType.CUDA and not event.is_user_annotation
    return event.self_device_time_total if is_kernel else 0.0
