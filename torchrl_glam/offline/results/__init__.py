"""Results of offline runs as tables and pictures: ``examples/compare_offline.py``.

Runs are read from their ``result.json`` files. Only runs that differ in nothing but their seeds are averaged.
"""

from importlib.util import find_spec

if find_spec("pandas") is None:
    raise ImportError('tables of offline runs need pandas: pip install "torchrl_glam[offline]"')

from torchrl_glam.offline.results.pictures import plot_scaling, plot_targets
from torchrl_glam.offline.results.published import published_offline_scores, published_table, published_task
from torchrl_glam.offline.results.runs import read_run, read_runs
from torchrl_glam.offline.results.scaling import ScalingStudy, scaling_studies, scaling_table
from torchrl_glam.offline.results.spread import Spread
from torchrl_glam.offline.results.tables import comparison_csv, comparison_tables, make_grids

__all__ = [
    "ScalingStudy",
    "Spread",
    "comparison_csv",
    "comparison_tables",
    "make_grids",
    "plot_scaling",
    "plot_targets",
    "published_offline_scores",
    "published_table",
    "published_task",
    "read_run",
    "read_runs",
    "scaling_studies",
    "scaling_table",
]
