"""Variants, and options that are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from torch._inductor import config as inductor

from tests.support.benchmarking import CPU, load
from tests.support.paths import EXAMPLES
from torchrl_glam.config import ImaginedMemory
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.benchmarks.options import BenchmarkConfig, Report, Variant, check_options, variant_config


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


EXAMPLE = EXAMPLES / "benchmark.py"


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
