"""Twice the data against twice the model: runs of one model on parts of its data and in several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torchrl_glam.offline.results.runs import DATA, MODELS, SETTINGS, OfflineResult, describe, group, telling
from torchrl_glam.offline.results.spread import Spread, decimals
from torchrl_glam.offline.results.tables import mean_return, normalised_score
from torchrl_glam.presentation import NOTHING, markdown


@dataclass(frozen=True)
class ScalingStudy:
    """A model on one dataset after one number of updates.

    Args:
        dataset, model, total_updates: what its runs share.
        normalised: whether scores are on D4RL's scale; else returns.
        lines: by size, from the smallest: the score at each fraction of the data, from the least.
    """

    dataset: str
    model: str
    total_updates: int
    normalised: bool
    lines: dict[str, dict[float, Spread]]

    @property
    def title(self) -> str:
        """What it is a study of."""
        return f"{MODELS[self.model]} on {self.dataset}, {self.total_updates:,} updates"

    @property
    def unit(self) -> str:
        """What the numbers are."""
        return "normalised score" if self.normalised else "return"


def scaling_studies(runs: Sequence[OfflineResult], model: str = "mambadm") -> list[ScalingStudy]:
    """The studies among the runs: a dataset and a number of updates with several fractions of the data.

    A size is a number of parameters. Runs of one size that differ in anything else but the seed, such as the memory,
    have a line for each kind.
    """
    studies = []
    own = [run for run in runs if run.model == model]
    for (dataset, updates), study in group(own, ("dataset", "total_updates")).items():
        if len({run.fraction for run in study}) < 2:
            continue
        normalised = all(run.normalised is not None for run in study)
        size = ("parameters", "width")
        others = [name for name in (*SETTINGS, *DATA) if name not in size]
        names = (*size, *telling(study, ("fraction", *size), others))
        lines: dict[str, dict[float, Spread]] = {}
        for key, line in group(study, names).items():
            label = describe(names, key)
            for (fraction,), cell in group(line, ("fraction",)).items():
                score = normalised_score(cell) if normalised else mean_return(cell)
                assert score is not None, f"{cell[0].path} has no normalised score"
                lines.setdefault(label, {})[fraction] = score
        studies.append(ScalingStudy(dataset, model, updates, normalised, lines))
    return studies


def scaling_table(study: ScalingStudy) -> str:
    """Scores by size and fraction, and what each step to more data or to a larger model changed, as Markdown."""
    fractions = sorted({fraction for line in study.lines.values() for fraction in line})
    rows = []
    for label, line in study.lines.items():
        rows.append([label, *(str(line[fraction]) if fraction in line else NOTHING for fraction in fractions)])
    scores = markdown(["size", *(f"{100 * fraction:g} % of the data" for fraction in fractions)], rows)
    changes = [[name, change(before, after)] for name, before, after in steps(study)]
    return f"{scores}\n\n{markdown(['step', f'change of the {study.unit} ± standard error'], changes)}"


def steps(study: ScalingStudy) -> list[tuple[str, Spread, Spread]]:
    """Each step to the next fraction of the data, and to the next size, with the scores before and after it."""
    found = []
    for label, line in study.lines.items():
        for less, more in pairwise(sorted(line)):
            found.append((f"{more / less:.3g} x the data ({100 * more:g} %), {label}", line[less], line[more]))
    for smaller, larger in pairwise(study.lines):
        for fraction in sorted(study.lines[smaller].keys() & study.lines[larger].keys()):
            name = f"from {smaller} to {larger}, {100 * fraction:g} % of the data"
            found.append((name, study.lines[smaller][fraction], study.lines[larger][fraction]))
    return found


def change(before: Spread, after: Spread) -> str:
    """The difference of two means and its standard error.

    Examples:
        >>> change(Spread(10.0, 3.0, 4), Spread(20.0, 4.0, 4))
        '+10.0 ± 2.5'
        >>> change(Spread(30.0, 3.0, 4), Spread(20.0, None, 1))
        '-10.0 (too few seeds for an error)'
    """
    difference = after.mean - before.mean
    scale = max(abs(before.mean), abs(after.mean))
    text = f"{'+' if difference >= 0 else '-'}{decimals(abs(difference), scale)}"
    if before.deviation is None or after.deviation is None:
        return f"{text} (too few seeds for an error)"
    error = (before.deviation**2 / before.seeds + after.deviation**2 / after.seeds) ** 0.5
    return f"{text} ± {decimals(error, scale)}"
