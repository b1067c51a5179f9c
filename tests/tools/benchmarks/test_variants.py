"""Small measurements of whole variants, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.benchmarking import CPU, TINY, load, rows_of
from tests.support.paths import EXAMPLES, ROOT
from torchrl_glam.machine.resources import peak_memory, reset_peak_memory
from torchrl_glam.tools.benchmarks.options import Variant
from torchrl_glam.tools.benchmarks.variants import measure_variants

EXAMPLE = EXAMPLES / "benchmark.py"
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


def run_example(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in a process of its own, as a user does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLE), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=folder)


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


@pytest.mark.long
def test_a_debug_run_prints_and_writes_its_tables(tmp_path):
    process = run_example(*TINY, "variants=[sliding,eager]", "threads=1", "out=tables.md", "--profile", folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert "Warning" not in process.stderr
    text = (tmp_path / "tables.md").read_text()
    assert process.stdout == text
    assert "examples/benchmark.py preset=debug" in text
    for part in (f"torch {torch.__version__}", "1 threads", "batch 4 x 16", "8 x context 8 x horizon 4"):
        assert part in text
    rows = rows_of(text)
    assert set(COMPONENTS) <= set(rows)
    assert {f"t {length}, forward and backward" for length in (4, 16, 64)} <= set(rows)
    assert json.loads((tmp_path / "profile.json").read_text())["traceEvents"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["profile.json", "tables.md"]


@pytest.mark.gpu
def test_a_debug_run_on_cuda(tmp_path):
    process = run_example(*TINY, "device=cuda", "out=tables.md", "--profile", folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert torch.cuda.get_device_name() in (tmp_path / "tables.md").read_text()
