"""One variant after the other, each in the same process with the same settings, none in memory beside another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.machine.resources import peak_memory, reset_peak_memory
from torchrl_glam.tools.benchmarks import timing
from torchrl_glam.tools.benchmarks.components import (
    ENCODE,
    IMAGINATION,
    PREFILL,
    WHOLE,
    WORLD_MODEL,
    Component,
    Workload,
)
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Variant, variant_config
from torchrl_glam.tools.benchmarks.profiling import share_outside_matrices, trace_components
from torchrl_glam.tools.benchmarks.timing import Timing

Progress = Callable[[str], None]
LONG = 10.0  # seconds; an eager call of that length is timed from the first one on


@dataclass
class VariantResult:
    """What was measured of one variant: timings and FLOPs by component, of one time that it is done."""

    timings: dict[str, Timing] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    first_calls: float = 0.0  # seconds of every component's first call together: with compiling, if any
    peak_memory: int | None = None  # bytes, of whole steps
    share_outside: float = 0.0  # of the world-model update, outside convolutions and matrix products
    top_operations: str = ""  # if a trace was asked for


Results = dict[Variant, VariantResult]


def measure_variants(config: BenchmarkConfig, device: torch.device, progress: Progress) -> Results:
    """Measure the variants asked for; the last one's components are traced if the options name a file.

    Args:
        config: options of the run and of the benchmark.
        device: where the networks are.
        progress: is told what is being done.
    """
    factory.make_env(config).close()  # gymnasium keeps the frames of its first call, and what they hold, for good
    results: Results = {}
    for variant in config.variants:
        own = variant_config(config, variant)
        flops = None
        if variant is Variant.compiled:  # a compiled graph hides its operations from the counter
            twin = results.get(Variant.eager)
            flops = twin.flops if twin else _count(variant_config(config, Variant.eager), device)
        trace = config.profile if variant is config.variants[-1] else None
        results[variant] = measure_variant(
            own, device, repeats=config.repeats, flops=flops, trace=trace, progress=_prefixed(variant, progress)
        )
    return results


def measure_variant(
    config: GLAMConfig,
    device: torch.device,
    *,
    repeats: int,
    flops: dict[str, int] | None,
    trace: str | None,
    progress: Progress,
) -> VariantResult:
    """Time every component, take the peak memory of whole steps, and profile the world-model update.

    Args:
        config: the variant's options.
        device: where the networks are.
        repeats: of each call, see :func:`~torchrl_glam.tools.benchmarks.timing.measure`.
        flops: by component, of the same sizes in eager mode; None counts them here, while warming up.
        trace: file for a chrome trace, or None.
        progress: is told what is being done.
    """
    progress("random play fills the replay")
    workload, result = Workload(config, device), VariantResult()
    watch = timing.Stopwatch(device)
    components = workload.components()  # imagines once, and so compiles
    result.first_calls = watch.seconds()
    for component in components:
        first = _first_call(component, result, workload, flops)
        if component.name == WHOLE:
            reset_peak_memory(device)
        measured = timing.measure(component.run, device, repeats=repeats, first=first)
        result.timings[component.name] = Timing(measured.seconds / component.count, measured.repeats)
        progress(f"{component.name}: {result.timings[component.name].seconds:.3g} s")
    result.peak_memory = peak_memory(device)
    update = next(component.run for component in components if component.name == WORLD_MODEL)
    result.share_outside = share_outside_matrices(update, device)
    if trace is not None:
        result.top_operations = trace_components(components, device, trace)
    workload.collector.shutdown()
    return result


def _first_call(
    component: Component, result: VariantResult, workload: Workload, flops: dict[str, int] | None
) -> float | None:
    """Warm up, counting unless that is done; return the seconds if so long a call needs no warming up."""
    if flops is None and component.name == WHOLE:  # the parts, which are warm, have been counted
        result.flops[WHOLE] = _whole_flops(result.flops, workload)
        return None
    watch = timing.Stopwatch(workload.device)
    if flops is None:
        result.flops[component.name] = timing.count_flops(component.run) // component.count
    else:
        result.flops[component.name] = flops[component.name]
        timing.warm_up(component.run, workload.device)
    seconds = watch.seconds()
    result.first_calls += seconds
    return seconds if flops is None and seconds > LONG else None


def _whole_flops(flops: dict[str, int], workload: Workload) -> int:
    """The sum of the parts: encoding is in them, and contexts are not read if rollouts start from the batch."""
    skipped = {ENCODE, WHOLE} if workload.starts_from_replay else {ENCODE, WHOLE, PREFILL}
    horizon = workload.config.imagination.horizon
    return sum(count * (horizon if name == IMAGINATION else 1) for name, count in flops.items() if name not in skipped)


def _count(config: GLAMConfig, device: torch.device) -> dict[str, int]:
    """FLOPs by component of a workload that is not measured."""
    workload = Workload(config, device)
    parts = [component for component in workload.components() if component.name != WHOLE]
    flops = {part.name: timing.count_flops(part.run) // part.count for part in parts}
    workload.collector.shutdown()
    return flops | {WHOLE: _whole_flops(flops, workload)}


def _prefixed(variant: Variant, progress: Progress) -> Progress:
    return lambda line: progress(f"{variant.value}: {line}")
