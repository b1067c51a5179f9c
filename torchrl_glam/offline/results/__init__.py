"""What offline runs came to, as tables and pictures: ``examples/compare_offline.py``.

Runs are read from their ``result.json`` files. Nothing is averaged but runs that differ in their seeds alone.
"""

from torchrl_glam.offline.results.pictures import plot_scaling, plot_targets
from torchrl_glam.offline.results.published import published_offline_scores, published_table, published_task
from torchrl_glam.offline.results.runs import OfflineResult, TargetEvaluation, read_run, read_runs
from torchrl_glam.offline.results.scaling import ScalingStudy, scaling_studies, scaling_table
from torchrl_glam.offline.results.spread import Spread
from torchrl_glam.offline.results.tables import Grid, comparison_csv, comparison_tables, make_grids

__all__ = [
    "Grid",
    "OfflineResult",
    "ScalingStudy",
    "Spread",
    "TargetEvaluation",
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
