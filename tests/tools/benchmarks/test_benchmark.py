"""The benchmark measures what it says, at sizes of seconds. Never how fast: that is for BENCHMARKS.md."""

from __future__ import annotations

import csv
import itertools
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from torch._inductor import config as inductor
from torch.utils.benchmark import Measurement, TaskSpec

from tests.support.paths import CONFIGS, EXAMPLES, ROOT
from torchrl_glam.config import ImaginedMemory
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.resources import peak_memory, reset_peak_memory
from torchrl_glam.modules.ssm import selective_scan_reference
from torchrl_glam.tools.benchmarks import scaling
from torchrl_glam.tools.benchmarks.components import Component, Workload
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Report, Variant, check_options, variant_config
from torchrl_glam.tools.benchmarks.profiling import is_matrix_operation, share_outside_matrices, trace_components
from torchrl_glam.tools.benchmarks.scaling import Point, measure_scaling, scaling_table
from torchrl_glam.tools.benchmarks.scans import scan_inputs, textbook_scan
from torchrl_glam.tools.benchmarks.tables import component_tables
from torchrl_glam.tools.benchmarks.timing import count_flops, measure, time_table
from torchrl_glam.tools.benchmarks.variants import VariantResult, measure_variants

EXAMPLE = EXAMPLES / "benchmark.py"
CPU = torch.device("cpu")
COMPONENTS = [
    "encode frames",
    "world-model update",
    "context prefill",
    "imagination, per step",
    "agent update",
    "acting",
    "emulator step",
    "replay: sequences",
    "replay: contexts",
    "whole step",
]
TINY = ["preset=debug", "env.name=tests.support.games:CatchBall-v0", "training.warmup_frames=20", "seconds=0.1"]


def load(*overrides: str) -> BenchmarkConfig:
    """The config that the command line makes of these options."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        return OmegaConf.to_object(compose("benchmark", overrides=list(overrides)))


def run_example(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in a process of its own, as a user does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLE), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=folder)


def rows_of(markdown: str) -> dict[str, list[str]]:
    """The rows of all tables by their first cell."""
    rows = [line.strip(" |").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in reversed(rows)}  # of equal names the first


def times(seconds: float, repeats: int = 5) -> Measurement:
    return Measurement(1, repeats * [seconds], TaskSpec("run()", ""))


def result(seconds: float, gflop: float) -> VariantResult:
    return VariantResult(
        times={"whole step": times(seconds)},
        flops={"whole step": int(gflop * 1e9)},
        first_calls=2.0,
        peak_memory=3 * 2**29,
        share_outside=0.25,
    )


# What is measured.


def test_a_long_call_is_measured_three_times():
    measured = measure(lambda: time.sleep(0.05), seconds=0.01, first=0.05)
    assert len(measured.times) == 3
    assert measured.median >= 0.05


def test_short_calls_are_repeated_until_the_time_is_over():
    pauses = itertools.cycle([0.01, 0.03])  # which never differ by less than a tenth
    began = time.monotonic()
    measured = measure(lambda: time.sleep(next(pauses)), seconds=0.2)
    assert len(measured.times) > 4
    assert 0.2 < time.monotonic() - began < 20


def test_the_time_is_that_of_one_of_several():
    whole = measure(lambda: time.sleep(0.02), seconds=0.1)
    part = measure(lambda: time.sleep(0.02), seconds=0.1, count=4)
    assert whole.median >= 0.02
    assert 0.005 <= part.median < whole.median


def test_flops_are_those_of_matrix_products_and_convolutions_forward_and_backward():
    linear, convolution = nn.Linear(3, 5), nn.Conv2d(2, 4, 3, padding=1)
    x = torch.zeros(7, 3, requires_grad=True)
    assert count_flops(lambda: linear(x).relu()) == 2 * 7 * 3 * 5
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 7 * 3 * 5
    image = torch.zeros(1, 2, 6, 6)
    assert count_flops(lambda: convolution(image)) == 2 * 6 * 6 * 4 * 2 * 9


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")
def test_peak_memory_is_of_what_came_after_the_reset():
    size = 200 * 2**20
    torch.ones(size // 4)
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    torch.ones(size // 4)
    after = peak_memory(CPU)
    assert before is not None
    assert after is not None
    assert 0.9 * size < after - before < 1.5 * size


def test_the_textbook_scan_is_the_scan():
    inputs = [tensor.detach().double().requires_grad_() for tensor in scan_inputs(2, 9, 5, 3)]
    y, state = textbook_scan(*inputs)
    wanted, wanted_state = selective_scan_reference(*inputs)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(state, wanted_state)
    grads, wanted_grads = (torch.autograd.grad(output.square().sum(), inputs) for output in (y, wanted))
    torch.testing.assert_close(grads, wanted_grads)


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


# What is compared.


def test_the_variants_differ_from_the_run_in_what_they_name_alone():
    config = load()
    config.imagination.window = 5
    sliding = variant_config(config, Variant.sliding)
    assert sliding.imagination.memory is ImaginedMemory.sliding
    assert sliding.imagination.window == 5
    assert sliding.world_model.dynamics.backend == "reference"
    assert config.imagination.memory is ImaginedMemory.carried  # a copy was changed
    sliding.imagination.memory = config.imagination.memory
    sliding.world_model.dynamics.backend = config.world_model.dynamics.backend
    assert sliding == variant_config(config, Variant.eager)


def test_the_default_is_the_papers_preset_and_every_variant():
    config = load()
    assert config.preset == "paper"
    assert config == BenchmarkConfig(preset="paper")
    assert config.variants[:2] == (Variant.sliding, Variant.eager)


def test_ratios_are_those_of_the_baselines_seconds():
    table = component_tables({Variant.sliding: result(6.0, 12.0), Variant.eager: result(1.5, 4.5)})
    rows = rows_of(table)
    assert rows["component"] == ["sliding", "eager", "sliding / eager", "repeats"]
    assert rows["whole step"] == ["6 s", "1.5 s", "4x", "5, 5"]
    assert rows["whole steps per second"] == ["0.167", "0.667"]
    assert "| whole step | 12 | 2 | 4.5 | 3 |" in table
    assert rows["peak memory of a whole step"] == ["1.50 GiB", "1.50 GiB"]
    assert "25%" in table


def test_without_the_baseline_there_is_no_ratio():
    rows = rows_of(component_tables({Variant.eager: result(1.5, 4.5)}))
    assert rows["whole step"] == ["1.5 s", "-", "5"]


POINTS = [Point(Variant.sliding, 8, 16, times(4.0)), Point(Variant.eager, 8, 16, times(1.0))]


def test_scaling_has_its_ratio_too():
    rows = rows_of(scaling_table(POINTS))
    assert rows["imagination"] == ["sliding", "eager", "sliding / eager", "repeats"]
    assert rows["context 8, horizon 16"] == ["4 s", "1 s", "4x", "5, 5"]
    assert rows_of(scaling_table(POINTS[1:]))["context 8, horizon 16"] == ["1 s", "-", "5"]


def test_tables_have_as_many_columns_in_every_row():
    results = {Variant.sliding: result(6.0, 0.0), Variant.eager: result(1.5, 4.5)}
    scans = {"textbook": {"t 4": times(3.0)}, "torch": {"t 4": times(1.0)}}
    texts = [component_tables(results), time_table("scan", scans, "textbook"), scaling_table(POINTS)]
    for table in "\n\n".join(texts).split("\n\n"):
        assert len({line.replace("---", " ").count("|") for line in table.splitlines()}) == 1, table


# Small measurements.


def test_every_component_of_every_variant_is_measured():
    lines: list[str] = []
    config = load(*TINY, "variants=[sliding,eager]")
    results = measure_variants(config, CPU, lines.append)
    assert list(results) == [Variant.sliding, Variant.eager]
    for measured in results.values():
        assert list(measured.times) == COMPONENTS
        assert all(time.median > 0 and len(time.times) >= 3 for time in measured.times.values())
        assert 0 < measured.share_outside < 1
        assert measured.peak_memory is None or measured.peak_memory > 2**20
    assert "sliding: world-model update" in " ".join(lines)

    sliding, eager = (measured.flops for measured in results.values())
    assert sliding["encode frames"] == eager["encode frames"] > 0
    for name in ("world-model update", "context prefill", "agent update", "acting"):  # the scans may differ
        assert sliding[name] == pytest.approx(eager[name], rel=0.1)
    assert sliding["imagination, per step"] > 2 * eager["imagination, per step"]
    parts = [name for name in COMPONENTS if name not in ("encode frames", "imagination, per step", "whole step")]
    horizon = config.imagination.horizon
    whole = sum(eager[name] for name in parts) + horizon * eager["imagination, per step"]
    assert eager["whole step"] == pytest.approx(whole, rel=1e-3)
    assert eager["emulator step"] == eager["replay: sequences"] == 0


def test_the_agent_update_trains_the_agent_and_leaves_the_world_model():
    workload = Workload(load(*TINY), CPU)
    components = {component.name: component for component in workload.components()}
    before = [parameter.detach().clone() for parameter in workload.actor.parameters()]
    untouched = [parameter.detach().clone() for parameter in workload.world_model.parameters()]
    components["agent update"].run()
    assert any(not torch.equal(a, b) for a, b in zip(before, workload.actor.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(untouched, workload.world_model.parameters(), strict=True))


def test_a_trace_names_the_components(tmp_path):
    trace = tmp_path / "trace.json"
    matrix = torch.randn(50, 50)
    component = Component("a product", lambda: matrix @ matrix)
    assert "aten::mm" in trace_components([component], CPU, str(trace))
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"a product", "aten::mm"} <= names


# The command.


def test_a_debug_run_prints_and_writes_its_tables(tmp_path):
    process = run_example(*TINY, "variants=[sliding,eager]", "threads=1", "out=tables.md", "--profile", folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert "Warning" not in process.stderr
    text = (tmp_path / "tables.md").read_text()
    assert process.stdout == text
    assert "python examples/benchmark.py preset=debug" in text
    for part in (f"torch {torch.__version__}", "1 threads", "batch 4 x 16", "8 x context 8 x horizon 4"):
        assert part in text
    rows = rows_of(text)
    assert set(COMPONENTS) <= set(rows)
    assert {f"t {length}, forward and backward" for length in (4, 16, 64)} <= set(rows)
    assert json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["profile.json", "tables.md"]


def test_scaling_draws_a_picture_and_keeps_its_numbers(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(scaling, "HORIZONS", (2, 4))
    monkeypatch.setattr(scaling, "CONTEXTS", (4, 8))
    monkeypatch.chdir(tmp_path)
    options = [*TINY, "variants=[sliding,eager]", "report=scaling", "picture=scaling.png", "out=scaling.md"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert Path("scaling.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(Path("scaling.csv").read_text().splitlines()))
    places = {("8", "2"), ("8", "4"), ("4", "4")}  # debug: context 8, horizon 4
    assert {(row["variant"], row["context"], row["horizon"]) for row in rows} == {
        (variant, *place) for variant in ("sliding", "eager") for place in places
    }
    assert "![" in Path("scaling.md").read_text()


def test_scaling_gives_a_transformer_room_for_every_point(monkeypatch):
    monkeypatch.setattr(scaling, "HORIZONS", (2,))
    monkeypatch.setattr(scaling, "CONTEXTS", (4, 48))  # the run's own longest sequence is 40
    config = load(*TINY, "dynamics=storm", "variants=[eager]")
    points = measure_scaling(config, CPU, lambda line: None)
    assert [(point.context, point.horizon) for point in points] == [(4, 4), (8, 2), (48, 4)]
    assert config.world_model.dynamics.max_length is None, "the caller's config stays"


@pytest.fixture
def refused(refuse: Callable[..., str]) -> Callable[..., str]:
    return partial(refuse, EXAMPLE)


BAD_INPUTS = {
    "unknown variant": (["variants=[fast]"], ["variants=[fast]", "sliding, eager, compiled"]),
    "no variant": (["variants=[]"], ["variants=[]", "sliding, eager, compiled"]),
    "a variant twice": (["variants=[eager,eager]"], ["once"]),
    "unknown report": (["report=all"], ["report=all", "tables, scans, scaling"]),
    "no time": (["seconds=0"], ["seconds=0", "above 0"]),
    "no threads": (["threads=0"], ["threads=0", "at least 1"]),
    "a folder that is not there": (["out=/nowhere/tables.md"], ["out=/nowhere/tables.md", "exists"]),
    "a trace of nothing": (["report=scans", "profile=trace.json"], ["profile=trace.json", "report=scans"]),
    "a picture of another kind": (["report=scaling", "picture=scaling.csv"], ["picture=scaling.csv", ".png"]),
    "an option of the run": (["replay.batch_size=0"], ["replay.batch_size=0", "at least 1"]),
    "unknown game": (["env.name=ALE/Pnog-v5"], ["ALE/Pnog-v5", "did you mean"]),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_ends_in_one_clear_line(name, refused):
    options, wanted = BAD_INPUTS[name]
    line = refused("preset=debug", *options)
    for part in wanted:
        assert part in line


def test_without_matplotlib_scaling_says_what_to_install(monkeypatch):
    monkeypatch.setattr("torchrl_glam.presentation.has_matplotlib", False)
    with pytest.raises(UsageError, match=r"pip install .*\[report\]"):
        check_options(BenchmarkConfig(report=Report.scaling), CPU)


def test_without_a_compiler_the_compiled_variant_says_what_is_missing():
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        with pytest.raises(UsageError, match=r"compiled among the variants .* C\+\+ compiler"):
            check_options(BenchmarkConfig(), CPU)
        check_options(BenchmarkConfig(variants=(Variant.eager,)), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_debug_run_on_cuda(tmp_path):
    process = run_example(*TINY, "device=cuda", "out=tables.md", "--profile", folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert torch.cuda.get_device_name() in (tmp_path / "tables.md").read_text()
