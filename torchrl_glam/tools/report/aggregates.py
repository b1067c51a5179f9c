"""Aggregates of a panel's methods, and the comparisons between them, as Markdown and as CSV."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torchrl_glam.presentation import NOTHING, csv_text, markdown
from torchrl_glam.tools.report.comparisons import published_aggregates
from torchrl_glam.tools.report.methods import Method
from torchrl_glam.tools.report.panels import Panel
from torchrl_glam.tools.report.references import Scale
from torchrl_glam.tools.report.statistics import AGGREGATES, AS_HUMAN, Bootstrap, Estimate

PUBLISHED_LINE = (
    "Published methods have one mean per game: so no interval, and neither IQM nor optimality gap, which are of single "
    "runs and other ones of means. The intervals are of 95 %, over seeds: they say nothing of other games."
)


@dataclass(frozen=True)
class PanelResult:
    """What a panel came to.

    Args:
        panel: the methods and games.
        aggregates: by method and name.
        superhuman: games in which a method's mean over seeds reaches the human score.
        improvement: probability that the first of two methods beats the second, where both have seeds enough.
        published: mean, median, games as good as human and games reported of each published method.
    """

    panel: Panel
    aggregates: dict[str, dict[str, Estimate]]
    superhuman: dict[str, int]
    improvement: dict[tuple[str, str], Estimate]
    published: dict[str, tuple[float, float, int, int]]


def aggregate(panel: Panel, scale: Scale, bootstrap: Bootstrap) -> PanelResult:
    """Work out all of a panel's numbers."""
    scores = {method.label: panel.scores(method.label, scale) for method in panel.methods}
    return PanelResult(
        panel,
        {label: bootstrap.aggregates(own) for label, own in scores.items()},
        {label: int((own.mean(0) >= AS_HUMAN).sum()) for label, own in scores.items()},
        {
            (one.label, other.label): bootstrap.improvement(scores[one.label], scores[other.label])
            for one, other in itertools.combinations(panel.enough(), 2)
            if _comparable(one, other)
        },
        published_aggregates(panel.games, scale),
    )


def aggregates_table(result: PanelResult) -> str:
    """A row for each method, ours and the published ones, on the same games."""
    panel, rows = result.panel, []
    for method in panel.methods:
        label = method.label
        numbers = [str(result.aggregates[label][name]) for name in AGGREGATES]
        how = [method.first.protocol, f"{method.first.total_frames:,}", str(panel.seeds(label))]
        rows.append([f"ours: {label}", *how, *numbers, str(result.superhuman[label])])
    for name, (mean, median, reached, reported) in result.published.items():
        missing = "" if reported == len(panel.games) else f" ({reported} of {len(panel.games)} games)"
        numbers = [f"{mean:.3f}", f"{median:.3f}", NOTHING, NOTHING, str(reached)]
        rows.append([f"published: {name}{missing}", NOTHING, "100,000", NOTHING, *numbers])
    return markdown(["method", "protocol", "steps", "seeds", *AGGREGATES, "games as good as human"], rows)


def improvement_table(result: PanelResult) -> str | None:
    """How probable it is that a run of one method beats one of another in the same game."""
    rows = [[f"{one} > {other}", str(chance)] for (one, other), chance in result.improvement.items()]
    return markdown(["methods", "probability of improvement"], rows) if rows else None


def aggregates_csv(results: Sequence[PanelResult]) -> str:
    """A line for each number of each method."""
    rows: list[list[object]] = []
    for result in results:
        games = len(result.panel.games)
        for label, estimates in result.aggregates.items():
            seeds = result.panel.seeds(label)
            for name, estimate in estimates.items():
                rows.append([games, label, "ours", seeds, name, *_numbers(estimate)])
            rows.append([games, label, "ours", seeds, "superhuman", result.superhuman[label], None, None])
        for (one, other), chance in result.improvement.items():
            rows.append([games, f"{one} > {other}", "ours", None, "probability of improvement", *_numbers(chance)])
        for method, (mean, median, reached, reported) in result.published.items():
            for name, value in (("mean", f"{mean:.6g}"), ("median", f"{median:.6g}"), ("superhuman", reached)):
                rows.append([reported, method, "published", None, name, value, None, None])
    return csv_text(["games", "method", "whose", "seeds", "quantity", "value", "low", "high"], rows)


def profile_thresholds(result: PanelResult, scale: Scale) -> np.ndarray:
    """Where the performance profiles are worked out ``[x]``: from 0 to nearly the best run, 8 at most."""
    best = max(np.quantile(result.panel.scores(method.label, scale), 0.98) for method in result.panel.methods)
    return np.linspace(0, min(max(np.ceil(best), 1.0), 8.0), 81)


def _comparable(one: Method, other: Method) -> bool:
    return one.first.protocol == other.first.protocol


def _numbers(estimate: Estimate) -> list[str | None]:
    values = (estimate.point, estimate.low, estimate.high)
    return [None if value is None else f"{value:.6g}" for value in values]
