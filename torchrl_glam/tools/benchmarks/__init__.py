"""The cost of each part of training, against named baselines in the same process: ``examples/benchmark.py``."""

from torchrl_glam.tools.benchmarks.components import Component, Workload
from torchrl_glam.tools.benchmarks.options import (
    BenchmarkConfig,
    Report,
    Variant,
    check_options,
    variant_config,
)
from torchrl_glam.tools.benchmarks.profiling import share_outside_matrices, trace_components
from torchrl_glam.tools.benchmarks.scaling import draw_scaling, measure_scaling, scaling_table, write_scaling
from torchrl_glam.tools.benchmarks.scans import measure_scans, scan_table, textbook_scan
from torchrl_glam.tools.benchmarks.tables import component_tables, header
from torchrl_glam.tools.benchmarks.timing import count_flops, measure
from torchrl_glam.tools.benchmarks.variants import Results, VariantResult, measure_variants

__all__ = [
    "BenchmarkConfig",
    "Component",
    "Report",
    "Results",
    "Variant",
    "VariantResult",
    "Workload",
    "check_options",
    "component_tables",
    "count_flops",
    "draw_scaling",
    "header",
    "measure",
    "measure_scaling",
    "measure_scans",
    "measure_variants",
    "scaling_table",
    "scan_table",
    "share_outside_matrices",
    "textbook_scan",
    "trace_components",
    "variant_config",
    "write_scaling",
]
