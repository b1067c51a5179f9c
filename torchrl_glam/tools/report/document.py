"""The report as a whole: its text, its tables as CSV, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.report import comparisons, pictures, tables
from torchrl_glam.tools.report.aggregates import (
    PUBLISHED_LINE,
    PanelResult,
    aggregate,
    aggregates_csv,
    aggregates_table,
    improvement_table,
    profile_thresholds,
)
from torchrl_glam.tools.report.curves import panel_curves
from torchrl_glam.tools.report.limits import ALL_GAMES, GAMES_LINE, NAME_LINE, SEEDS_LINE
from torchrl_glam.tools.report.methods import Method, make_methods, protocol_line
from torchrl_glam.tools.report.panels import count, make_panels
from torchrl_glam.tools.report.references import SOURCES, References, Scale, load_references
from torchrl_glam.tools.report.runs import AtariRun, Findings
from torchrl_glam.tools.report.statistics import Bootstrap

SHOWN = 8  # paths of a kind that are named, at most

RANDOM_LINE = (
    "One-sided Mann-Whitney U of each seed's evaluation episodes against the measured episodes of random play, not "
    "corrected for the number of tests: how probable episodes as good as these are, if the run plays no better than at "
    "random."
)


@dataclass(frozen=True)
class Study:
    """Runs, sorted into methods, and what their scores are measured by.

    Args:
        methods: ours.
        random: runs of random play.
        scale: references of the human-normalised score.
        references: where these are from.
        notes: a line for each thing left out or not over.
        results: of each panel.
        outside: a line for each method without aggregates.
        bootstrap: of the intervals.
    """

    methods: list[Method]
    random: list[AtariRun]
    scale: Scale
    references: References
    notes: list[str]
    results: list[PanelResult]
    outside: list[str]
    bootstrap: Bootstrap


def make_study(found: Findings, references: References, bootstrap: Bootstrap) -> Study:
    """Sort what was found, and work out the aggregates.

    Raises:
        UsageError: if a method has two different results of one seed in one environment.
    """
    scale = load_references(references)
    methods, copies = make_methods(found.runs)
    panels, outside = make_panels(methods, scale)
    results = [aggregate(panel, scale, bootstrap) for panel in panels]
    notes = [*_notes(found), *copies]
    return Study(methods, found.random, scale, references, notes, results, outside, bootstrap)


def report_text(study: Study, images: dict[str, str], *, league: bool = False) -> str:
    """The whole report as Markdown.

    Args:
        images: headings of pictures by their files' names; a panel's begin with its title.
        league: print the league of published methods even without runs of all games.
    """
    titles = [result.panel.title for result in study.results]
    parts = ["# Atari 100k" if any("Atari 100k" in title for title in titles) else "# Atari runs", _introduction(study)]
    parts += ["## Methods", tables.methods_table(study.methods)]
    parts += ["## Games", tables.games_table(study.methods, study.scale)]
    parts += [f"![{heading}]({name})" for name, heading in images.items() if name == "games.png"]
    parts += _against_random(study)
    if published := comparisons.published_table(study.methods, study.scale):
        parts += ["## Beside the published scores", published, comparisons.PUBLISHED_LINE]
        parts += comparisons.differences(study.methods)
    parts += ["## Aggregates", *_aggregates(study, images)]
    if ablation := comparisons.ablation_table(study.methods, study.scale):
        parts += ["## Ablation, beside GLAM's Table 2", ablation]
    if league or any(len(result.panel.games) == ALL_GAMES for result in study.results):
        parts += ["## League of published methods, all 26 games", comparisons.league_table()]
    parts += ["## Published aggregates, worked out again from per-game scores", comparisons.checks_table()]
    return "\n\n".join(parts) + "\n"


def report_files(study: Study) -> dict[str, str]:
    """The tables as CSV, by file name."""
    return {
        "runs.csv": tables.runs_csv(study.methods, study.random, study.scale),
        "games.csv": tables.games_csv(study.methods, study.scale),
        "aggregates.csv": aggregates_csv(study.results),
        "published.csv": comparisons.checks_csv(),
    }


def draw(study: Study, out: Path) -> tuple[dict[str, str], list[str]]:
    """Write the pictures.

    Returns:
        Headings by file name, and a line for each curve that could not be drawn.

    Raises:
        UsageError: if a file cannot be written.
    """
    styles, images, notes = pictures.method_styles(study.methods), {}, []
    if pictures.plot_games(out / "games.png", study.methods, study.scale, styles):
        images["games.png"] = "Returns in training, game by game"
    for result in study.results:
        panel, end = result.panel, _suffix(study.results, result)
        pictures.plot_aggregates(out / f"aggregates{end}.png", result, styles)
        images[f"aggregates{end}.png"] = f"{panel.title}: aggregates"
        thresholds = profile_thresholds(result, study.scale)
        profiles = {
            method.label: study.bootstrap.profile(panel.scores(method.label, study.scale), thresholds)
            for method in panel.methods
        }
        pictures.plot_profiles(out / f"profiles{end}.png", panel, profiles, thresholds, styles)
        images[f"profiles{end}.png"] = f"{panel.title}: performance profiles"
        if result.improvement:
            pictures.plot_improvement(out / f"improvement{end}.png", result)
            images[f"improvement{end}.png"] = f"{panel.title}: probability of improvement"
        curves, missing = panel_curves(panel, study.scale, study.bootstrap)
        notes += missing
        if curves:
            pictures.plot_efficiency(out / f"efficiency{end}.png", panel, curves, styles)
            images[f"efficiency{end}.png"] = f"{panel.title}: sample efficiency"
    return images, notes


def write_report(study: Study, out: Path, *, league: bool, with_pictures: bool) -> tuple[str, list[str]]:
    """Write ``report.md``, the csv files and the pictures.

    Returns:
        The text, and the names of the files.

    Raises:
        UsageError: if one cannot be written.
    """
    images, notes = draw(study, out) if with_pictures else ({}, [])
    study.notes.extend(notes)
    text = report_text(study, images, league=league)
    files = {"report.md": text, **report_files(study)}
    for name, content in files.items():
        write_file(out / name, content.encode())
    return text, [*files, *images]


def _introduction(study: Study) -> str:
    runs = sum(len(method.runs) for method in study.methods)
    environments = {env for method in study.methods for env in method.games}
    protocols = sorted({method.first.protocol for method in study.methods})
    lines = [
        f"{count(runs, 'run')} of {count(len(study.methods), 'method')} in {count(len(environments), 'environment')}. "
        f"Protocol {'; '.join(protocol_line(protocol) for protocol in protocols)}.",
        "A score is the mean over seeds of each seed's mean return over its evaluation episodes, in game points; ± is "
        "the standard deviation over seeds. Human-normalised: random play 0, human 1; references: "
        f"{SOURCES[study.references]}.",
    ]
    return "\n\n".join([*lines, *(["\n".join(f"* {note}" for note in study.notes)] if study.notes else [])])


def _against_random(study: Study) -> list[str]:
    if not study.random:
        return []
    table = tables.random_table(study.methods, study.random, study.scale)
    parts = ["## Against random play", *([table, RANDOM_LINE] if table else [])]
    without = [
        f"{tables.show_env(env)} ({method.first.protocol})"
        for method, env in tables.played(study.methods, study.scale)
        if not tables.random_returns(method.games[env][0], study.random)
    ]
    if without:
        parts.append(f"No random play was given, so no test, of {', '.join(dict.fromkeys(without))}.")
    return parts


def _aggregates(study: Study, images: dict[str, str]) -> list[str]:
    """A section for each panel, and what there is too little of."""
    parts = []
    for result in study.results:
        panel = result.panel
        title = panel.title[0].upper() + panel.title[1:]
        parts += [f"### {title}", aggregates_table(result)]
        if len(panel.games) < ALL_GAMES:
            parts.append(f"Games: {', '.join(panel.games)}. Every row is of these alone.")
        parts += panel.notes
        if improvement := improvement_table(result):
            parts.append(improvement)
        elif len(panel.enough()) > 1:
            parts.append("No probability of improvement: the methods were evaluated under different protocols.")
        end = _suffix(study.results, result)
        parts += [
            f"![{images[name]}]({name})" for name in images if name.endswith(f"{end}.png") and name in _names(end)
        ]
    lines = [*([PUBLISHED_LINE] if parts else []), *study.outside, GAMES_LINE, SEEDS_LINE, NAME_LINE]
    return [*parts, "\n".join(f"* {line}" for line in lines)]


def _names(end: str) -> set[str]:
    return {f"{name}{end}.png" for name in ("aggregates", "profiles", "improvement", "efficiency")}


def _suffix(results: Sequence[PanelResult], result: PanelResult) -> str:
    """What tells a panel's files from those of the first panel."""
    place = results.index(result)
    return f"-{place + 1}" if place else ""


def _notes(found: Findings) -> list[str]:
    """What is not over, and what was left out."""
    notes = []
    if found.unfinished:
        runs = count(len(found.unfinished), "run")
        notes.append(f"**This study is not over**: {runs} without a result yet: {_some(found.unfinished)}.")
    for kind, files in found.left_out.items():
        notes.append(f"Left out, {count(len(files), 'result')} of {kind}: {_some(files)}.")
    return notes


def _some(paths: Sequence[Path]) -> str:
    """The first ones."""
    more = len(paths) - SHOWN
    return ", ".join(map(str, paths[:SHOWN])) + (f" and {more} more" if more > 0 else "")
