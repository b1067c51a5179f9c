"""The report as a whole: its text, its tables as CSV, its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from torchrl_glam.envs import PROTOCOLS
from torchrl_glam.presentation import count, escape_html, frame_markdown, guard_formula
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.report import published, tables
from torchrl_glam.tools.report.limits import ALL_FRAMES, ALL_GAMES, GAMES_LINE, MIN_SEEDS, NAME_LINE, SEEDS_LINE
from torchrl_glam.tools.report.methods import tabulate_runs
from torchrl_glam.tools.report.panels import COLUMNS, Panel, make_panels
from torchrl_glam.tools.report.pictures import PICTURES, draw
from torchrl_glam.tools.report.references import References, load_references
from torchrl_glam.tools.report.runs import Findings
from torchrl_glam.tools.report.statistics import Bootstrap

SHOWN = 8  # paths of a kind that are named, at most

RANDOM_LINE = (
    "One-sided Mann-Whitney U of each seed's evaluation episodes against the measured episodes of random play, not "
    "corrected for the number of tests. p is the probability of episodes as good as these if the run plays no better "
    "than at random."
)
SCORES_LINE = (
    f"Published: {published.TABLE}, means of 5 seeds x 20 episodes after {ALL_FRAMES:,} steps. GLAM's protocol is "
    "`glam`; the other papers mostly use `standard`."
)
AGGREGATES_LINE = (
    "Published methods have one mean per game. So they have no interval, and neither IQM nor optimality gap, which are "
    "defined over single runs. The intervals are 95 % intervals over seeds: they say nothing about other games."
)


def write_report(
    found: Findings, references: References, bootstrap: Bootstrap, out: Path, league: bool, with_pictures: bool
) -> tuple[str, list[str]]:
    """Write ``report.md``, the csv files and the pictures.

    Args:
        found: the runs.
        references: source of the random and human scores.
        bootstrap: of the intervals.
        out: a folder.
        league: show the league of published methods even without runs of all games.
        with_pictures: draw pictures; needs matplotlib.

    Returns:
        The text, and the names of the files.

    Raises:
        UsageError: if there are two results of one method, environment and seed, or a file cannot be written.
    """
    scale = load_references(references)
    runs, copies = tabulate_runs(found.runs, scale, found.random)
    panels, outside = make_panels(runs, scale, bootstrap)
    images, missing = draw(out, runs, panels) if with_pictures else ({}, [])
    parts = ["# Atari 100k" if any("Atari 100k" in panel.title for panel in panels) else "# Atari runs"]
    parts += _introduction(runs, references, [*_notes(found), *copies, *missing])
    parts += ["## Methods", frame_markdown(tables.methods_table(runs))]
    parts += ["## Games", frame_markdown(tables.games_table(runs)), *_show(images, "games")]
    parts += _against_random(runs) if found.random else []
    if len(scores := tables.published_table(runs)):
        parts += ["## Beside the published scores", frame_markdown(scores), SCORES_LINE, *tables.differences(runs)]
    parts += ["## Aggregates", *(part for panel in panels for part in _panel(panel, images))]
    parts.append(_list([*([AGGREGATES_LINE] if panels else []), *outside, GAMES_LINE, SEEDS_LINE, NAME_LINE]))
    if (ablation := tables.ablation_table(runs)) is not None:
        parts += ["## Ablation, beside GLAM's Table 2", frame_markdown(ablation)]
    if league or any(len(panel.games) == ALL_GAMES for panel in panels):
        parts += ["## League of published methods, all 26 games", frame_markdown(published.league())]
    checks = published.check_published()
    parts += ["## Published aggregates, recomputed from per-game scores", frame_markdown(tables.checks_table(checks))]
    parts.append(_list(map(published.complaint, checks[~checks["follows"]].itertuples())))
    text = escape_html("\n\n".join(parts)) + "\n"
    files = {"report.md": text, **_csv_files(runs, panels, checks)}
    for name, content in files.items():
        write_file(out / name, content.encode())
    return text, [*files, *images]


def _csv_files(runs: pd.DataFrame, panels: list[Panel], checks: pd.DataFrame) -> dict[str, str]:
    """Return the text of each csv file by its name."""
    aggregates = [panel.aggregates for panel in panels] or [pd.DataFrame(columns=COLUMNS)]
    csv_tables = {
        "runs.csv": tables.runs_csv(runs),
        "games.csv": tables.games_csv(runs),
        "aggregates.csv": pd.concat(aggregates),
        "published.csv": checks,
    }
    options = {"index": False, "lineterminator": "\n", "float_format": "%.6g"}
    return {name: table.map(guard_formula).to_csv(**options) for name, table in csv_tables.items()}


def protocol_line(protocol: str) -> str:
    """Return a protocol in words.

    Examples:
        >>> protocol_line("glam")
        '`glam`: sticky actions 0.25, no no-ops'
        >>> protocol_line("standard")
        '`standard`: no sticky actions, up to 30 no-ops'
    """
    if protocol not in PROTOCOLS:
        return f"`{protocol}`"
    sticky, noops = PROTOCOLS[protocol].repeat_action_probability, PROTOCOLS[protocol].noop_max
    actions = f"sticky actions {sticky:g}" if sticky else "no sticky actions"
    return f"`{protocol}`: {actions}, {f'up to {noops}' if noops else 'no'} no-ops"


def _introduction(runs: pd.DataFrame, references: References, notes: list[str]) -> list[str]:
    methods, environments = count(runs["method"].nunique(), "method"), count(runs["env"].nunique(), "environment")
    protocols = "; ".join(map(protocol_line, sorted(set(runs["protocol"]))))
    return [
        f"{count(len(runs), 'run')} of {methods} in {environments}. Protocol {protocols}.",
        "A score is the mean over seeds of each seed's mean return over its evaluation episodes, in game points; ± is "
        "the standard deviation over seeds. Human-normalised: random play 0, human 1; references: "
        f"{references.value[2]}.",
        *([_list(notes)] if notes else []),
    ]


def _against_random(runs: pd.DataFrame) -> list[str]:
    parts, table = ["## Against random play"], tables.random_table(runs)
    if len(table):
        parts += [frame_markdown(table), RANDOM_LINE]
    without = runs[runs["random_play"].isna()].sort_values(["env", "method"])
    if len(without):
        names = dict.fromkeys(without["name"] + " (" + without["protocol"] + ")")
        parts.append(f"There is no random play, and so no test, of {', '.join(names)}.")
    return parts


def _panel(panel: Panel, images: dict[str, str]) -> list[str]:
    """Return the section of a panel."""
    parts = [f"### {panel.title[0].upper()}{panel.title[1:]}", frame_markdown(tables.aggregates_table(panel))]
    if len(panel.games) < ALL_GAMES:
        parts.append(f"Games: {', '.join(panel.games)}. Every row is of these games only.")
    parts += panel.notes
    if len(improvement := tables.improvement_table(panel)):
        parts.append(frame_markdown(improvement))
    elif (panel.methods["seeds"] >= MIN_SEEDS).sum() > 1:
        parts.append("No probability of improvement: the methods were evaluated under different protocols.")
    return [*parts, *_show(images, *(f"{picture}{panel.suffix}" for picture in PICTURES))]


def _show(images: dict[str, str], *names: str) -> list[str]:
    """Return Markdown that shows those of the pictures that were drawn."""
    return [f"![{images[file]}]({file})" for file in (f"{name}.png" for name in names) if file in images]


def _notes(found: Findings) -> list[str]:
    """Return lines on unfinished runs and on files left out."""
    notes = []
    if found.unfinished:
        runs = count(len(found.unfinished), "run")
        notes.append(f"**This study is not finished**: {runs} without a result yet: {_some(found.unfinished)}.")
    for kind, files in found.left_out.items():
        notes.append(f"Left out, {count(len(files), 'result')} of {kind}: {_some(files)}.")
    return notes


def _some(paths: Sequence[Path]) -> str:
    """Return the first paths as a text, and the number of the others."""
    more = len(paths) - SHOWN
    return ", ".join(map(str, paths[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
