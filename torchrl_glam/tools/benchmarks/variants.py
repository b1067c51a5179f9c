"""One variant after the other, each in the same process with the same settings, none in memory beside another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.utils.benchmark import Measurement
from torch.utils.benchmark import timer as clock

from torchrl_glam import factory
from torchrl_glam.machine.resources import peak_memory, reset_peak_memory
from torchrl_glam.tools.benchmarks.components import WHOLE, WORLD_MODEL, Workload
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant, variant_config
from torchrl_glam.tools.benchmarks.profiling import share_outside_matrices, trace_components
from torchrl_glam.tools.benchmarks.timing import count_flops, measure

Progress = Callable[[str], None]


@dataclass
class VariantResult:
    """The measurements of one variant; times and FLOPs by component."""

    times: dict[str, Measurement] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    first_calls: float = 0.0  # seconds of the first calls of all components, including compilation
    peak_memory: int | None = None  # bytes, of whole steps
    share_outside: float = 0.0  # of the world-model update, outside convolutions and matrix products
    top_operations: str = ""  # if a trace was asked for


Results = dict[Variant, VariantResult]


def measure_variants(config: BenchmarkConfig, device: torch.device, progress: Progress) -> Results:
    """Measure the chosen variants; trace the last one's components if the options name a file.

    Args:
        config: options of the run and of the benchmark.
        device: where the networks are.
        progress: takes a line before and after each measurement.
    """
    factory.make_env(config).close()  # gymnasium keeps the frames of its first call, and what they hold, for good
    results: Results = {}
    for variant in config.variants:
        flops = None
        if variant is Variant.compiled:  # a compiled graph hides its operations from the counter
            twin = results.get(Variant.eager)
            flops = twin.flops if twin else _count(variant_config(config, Variant.eager), device)
        trace = config.profile if variant is config.variants[-1] else None
        results[variant] = _measure_variant(config, variant, device, flops, trace, progress)
    return results


def _measure_variant(
    config: BenchmarkConfig,
    variant: Variant,
    device: torch.device,
    flops: dict[str, int] | None,
    trace: str | None,
    progress: Progress,
) -> VariantResult:
    """Measure every component, the peak memory of whole steps, and the profile of the world-model update.

    Args:
        config: of the benchmark.
        variant: changes its options.
        device: where the networks are.
        flops: by component, of the same sizes in eager mode; with None they are counted in the first calls.
        trace: file for a chrome trace, or None.
        progress: takes a line before and after each measurement.
    """
    progress(f"{variant.value}: random play fills the replay")
    workload, result = Workload(variant_config(config, variant), device), VariantResult()
    began = clock()
    components = workload.components()  # imagines once, and so compiles
    result.first_calls = clock() - began
    for component in components:
        name, began = component.name, clock()
        if flops is None:
            result.flops[name] = count_flops(component.run) // component.count
        else:
            result.flops[name] = flops[name]
            component.run()
        first = clock() - began
        result.first_calls += first
        if name == WHOLE:
            reset_peak_memory(device)
        result.times[name] = measure(component.run, seconds=config.seconds, first=first, count=component.count)
        progress(f"{variant.value}: {name}: {result.times[name].median:.3g} s")
    result.peak_memory = peak_memory(device)
    update = next(component.run for component in components if component.name == WORLD_MODEL)
    result.share_outside = share_outside_matrices(update, device)
    if trace is not None:
        result.top_operations = trace_components(components, device, trace)
    workload.collector.shutdown()
    return result


def _count(config: BenchmarkConfig, device: torch.device) -> dict[str, int]:
    """Count the FLOPs of each component without measuring it."""
    workload = Workload(config, device)
    flops = {part.name: count_flops(part.run) // part.count for part in workload.components()}
    workload.collector.shutdown()
    return flops
