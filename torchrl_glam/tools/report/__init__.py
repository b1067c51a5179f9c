"""What runs on Atari came to, beside the published methods: ``python -m torchrl_glam.tools.report RUNS...``.

Runs are read from their ``result.json`` files (``runs``), sorted into methods (``methods``), and aggregated over the
games that methods share (``panels``, ``aggregates``), as far as there are games and seeds enough (``limits``).
"""

from torchrl_glam.tools.report.document import Study, make_study, report_text, write_report
from torchrl_glam.tools.report.methods import Method, make_methods
from torchrl_glam.tools.report.published import check_published, published_scores
from torchrl_glam.tools.report.references import References, load_references
from torchrl_glam.tools.report.runs import AtariRun, Findings, read_run, read_runs
from torchrl_glam.tools.report.statistics import Bootstrap, Estimate

__all__ = [
    "AtariRun",
    "Bootstrap",
    "Estimate",
    "Findings",
    "Method",
    "References",
    "Study",
    "check_published",
    "load_references",
    "make_methods",
    "make_study",
    "published_scores",
    "read_run",
    "read_runs",
    "report_text",
    "write_report",
]
