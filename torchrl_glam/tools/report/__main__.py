"""``glam report RUNS...``, also ``glam-report`` and ``python -m torchrl_glam.tools.report``."""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from torchrl_glam import presentation
from torchrl_glam.command.options import small_command
from torchrl_glam.errors import UsageError, make_writable
from torchrl_glam.machine.invocation import calling_program
from torchrl_glam.tools.report.references import References
from torchrl_glam.tools.report.statistics import Bootstrap, load_rliable


@dataclass
class ReportOptions:
    """Options of the report."""

    out: str = "report"  # folder of report.md, the csv files and the pictures
    references: References = References.table1  # random and human scores: Table 1's, or those before rounding
    league: bool = False  # print the league of published methods even without runs of all 26 games
    resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the bootstrap; the same runs and seed give the same report


def main() -> None:
    """Run the command on paths and ``key=value`` options in any order."""
    paths, options = split_arguments(sys.argv[1:])
    sys.argv = [sys.argv[0] if calling_program() else "glam-report", *options]

    @small_command(ReportOptions)
    def report(options: ReportOptions) -> None:
        """Report runs on Atari: scores, aggregates with intervals, curves, beside the published methods.

        RUNS... are run folders, folders of runs, or result.json files, before or after the options.
        """
        if not paths:
            raise UsageError("give run folders, folders of runs, or result.json files; --help lists the options")
        if options.resamples < 100:
            raise UsageError(f"resamples={options.resamples}: give at least 100, or the intervals are noise")
        if not 0 <= options.seed < 2**32:
            raise UsageError(f"seed={options.seed}: give a whole number from 0 to {2**32 - 1}")
        load_rliable()  # or its error, which also names the extra that pandas comes with
        from torchrl_glam.tools.report.document import write_report
        from torchrl_glam.tools.report.runs import read_runs

        out = make_writable("out", Path(options.out) / "report.md").parent
        bootstrap, draws = Bootstrap(options.resamples, options.seed), presentation.has_matplotlib
        found = read_runs(paths)
        text, names = write_report(found, options.references, bootstrap, out, options.league, with_pictures=draws)
        sys.stdout.write(f"{text}\n{out}: {', '.join(names)}\n")
        if not draws:
            sys.stdout.write('no pictures: matplotlib is missing, pip install "torchrl_glam[report]"\n')

    report()


def split_arguments(arguments: list[str]) -> tuple[list[Path], list[str]]:
    """Separate paths from options.

    An option is ``name=value`` with a known name, or anything with a ``=`` that is not a path. So a folder may have a
    ``=`` in its name, as those of Hydra's sweeps have.
    """
    names = {field.name for field in fields(ReportOptions)}
    paths: list[str] = []
    options: list[str] = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        is_option = argument.startswith("-") or (equals and (name in names or not Path(argument).exists()))
        (options if is_option else paths).append(argument)
    return [Path(path) for path in paths], options


if __name__ == "__main__":
    main()
