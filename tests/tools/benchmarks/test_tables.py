"""Tables of made-up measurements."""

from __future__ import annotations

from tests.support.benchmarking import rows_of, times
from torchrl_glam.tools.benchmarks.options import Variant
from torchrl_glam.tools.benchmarks.scaling import Point, scaling_table
from torchrl_glam.tools.benchmarks.tables import component_tables
from torchrl_glam.tools.benchmarks.timing import time_table
from torchrl_glam.tools.benchmarks.variants import VariantResult


def result(seconds: float, gflop: float) -> VariantResult:
    return VariantResult(
        times={"whole step": times(seconds)},
        flops={"whole step": int(gflop * 1e9)},
        first_calls=2.0,
        peak_memory=3 * 2**29,
        share_outside=0.25,
    )


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


def test_tables_have_as_many_columns_in_every_row():
    results = {Variant.sliding: result(6.0, 0.0), Variant.eager: result(1.5, 4.5)}
    scans = {"textbook": {"t 4": times(3.0)}, "torch": {"t 4": times(1.0)}}
    points = [Point(variant, 8, 16, times(1.0)) for variant in results]
    texts = [component_tables(results), time_table("scan", scans, "textbook"), scaling_table(points)]
    for table in "\n\n".join(texts).split("\n\n"):
        assert len({line.replace("---", " ").count("|") for line in table.splitlines()}) == 1, table
