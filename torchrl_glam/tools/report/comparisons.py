"""The published numbers beside one's own: scores, the ablation, the league, and what papers print."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from torchrl_glam.envs.scores import atari_100k_scores
from torchrl_glam.presentation import NOTHING, csv_text, markdown
from torchrl_glam.tools.report.limits import ALL_FRAMES
from torchrl_glam.tools.report.methods import Method
from torchrl_glam.tools.report.published import (
    TABLE,
    Check,
    ablation_scores,
    check_published,
    league_rows,
    published_methods,
    published_scores,
    superhuman,
)
from torchrl_glam.tools.report.references import References, Scale, benchmark_game, load_references, normalise
from torchrl_glam.tools.report.tables import points

PUBLISHED_LINE = (
    f"Published: {TABLE}, means of 5 seeds x 20 episodes after {ALL_FRAMES:,} steps. GLAM's protocol is `glam`; the "
    "other papers mostly use `standard`."
)
PLACES = {"mean": 3, "median": 3, "superhuman": 0}


def published_table(methods: Sequence[Method], scale: Scale) -> str | None:
    """Scores of the published methods and of ours, in the games of the benchmark that were played."""
    table = atari_100k_scores()
    ours = {method.label: _by_game(method, scale) for method in methods}
    rows = []
    for game, scores in table.items():
        if any(game in own for own in ours.values()):
            own = [points(scores_[game]) if game in scores_ else NOTHING for scores_ in ours.values()]
            rows.append([game, *(NOTHING if score is None else f"{score:,g}" for score in scores.values()), *own])
    titles = ["game", *next(iter(table.values())), *(f"ours: {label}" for label in ours)]
    return markdown(titles, rows) if rows else None


def differences(methods: Sequence[Method]) -> list[str]:
    """A line for each method whose scores were not taken as the published ones were."""
    lines = []
    for method in methods:
        run, apart = method.first, []
        if run.total_frames != ALL_FRAMES:
            apart.append(f"{run.total_frames:,} steps, not {ALL_FRAMES:,}")
        if run.protocol != "glam":
            apart.append(f"protocol `{run.protocol}`, not GLAM's `glam`")
        if run.greedy:
            apart.append("greedy actions")
        if apart:
            lines.append(f"{method.label} is not comparable as it stands: {'; '.join(apart)}.")
    return lines


def ablation_table(methods: Sequence[Method], scale: Scale) -> str | None:
    """GLAM's Table 2 beside ours, where there are runs of an ablation in one of its games."""
    published = ablation_scores()
    games = list(published["none"])
    ours = [method for method in methods if method.first.ablation in published and _is_its_own(method)]
    played = {method.label: _by_game(method, scale) for method in ours}
    ours = [method for method in ours if any(game in played[method.label] for game in games)]
    if all(method.first.ablation == "none" for method in ours):
        return None
    rows = []
    for option, scores in published.items():
        rows.append([f"`ablation={option}`", "published", *(f"{scores[game]:,g}" for game in games)])
        for method in ours:
            if method.first.ablation == option:
                own = played[method.label]
                rows.append(["", f"ours: {method.label}", *(points(own[g]) if g in own else NOTHING for g in games)])
    return markdown(["ablation", "scores", *games], rows)


def league_table() -> str:
    """Published aggregates over all games, of more methods than have per-game scores here."""
    rows = league_rows()
    return markdown(list(rows[0]), [[cell or NOTHING for cell in row.values()] for row in rows])


def checks_table() -> str:
    """What Table 1's scores give beside what is printed, and a line for each number that does not follow."""
    rows, lines = [], []
    for check in check_published():
        verdict = "yes" if check.follows else "**no**"
        computed, low, high = (
            f"{value:.{PLACES[check.quantity]}f}" for value in (check.computed, check.low, check.high)
        )
        span = computed if low == high else f"{computed} ({low} to {high})"
        rows.append([check.method, check.quantity, span, check.printed, check.source, verdict])
        if not check.follows:
            lines.append(f"* {_complaint(check)}")
    titles = ["method", "quantity", f"from {TABLE}", "given", "by", "follows"]
    return "\n\n".join([markdown(titles, rows), "\n".join(lines)])


def checks_csv() -> str:
    """A line for each printed number."""
    rows = [
        [c.method, c.quantity, f"{c.computed:.6g}", f"{c.low:.6g}", f"{c.high:.6g}", c.printed, c.source, c.follows]
        for c in check_published()
    ]
    return csv_text(["method", "quantity", "computed", "low", "high", "printed", "source", "follows"], rows)


def published_aggregates(games: Sequence[str], scale: Scale) -> dict[str, tuple[float, float, int, int]]:
    """Mean, median, games as good as human, and games reported, of each published method in these games."""
    found = {}
    for method in published_methods():
        scores = published_scores(method, games, scale)
        if scores:
            reached = int(superhuman(scores))
            found[method] = (statistics.fmean(scores), statistics.median(scores), reached, len(scores))
    return found


def _complaint(check: Check) -> str:
    """What is wrong with a printed number, and, of a median, which games it lies between."""
    text = (
        f"{check.method}'s {check.quantity} of {check.printed} ({check.source}) does not follow from {TABLE}: its "
        f"column gives {check.computed:.4f}, and by rounding no more than {check.low:.4f} to {check.high:.4f}"
    )
    if check.quantity != "median":
        return f"{text}."
    scale, table = load_references(References.table1), atari_100k_scores()
    scores = {game: row[check.method] for game, row in table.items()}
    ordered = sorted((normalise(game, score, scale), game) for game, score in scores.items() if score is not None)
    (low, before), (high, after) = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return f"{text} (it lies between {before}, {low:.3f}, and {after}, {high:.3f})."


def _by_game(method: Method, scale: Scale) -> dict[str, float]:
    """Mean over seeds in each game of the benchmark."""
    scores = {benchmark_game(env, scale): statistics.fmean(method.scores(env)) for env in method.games}
    return {game: score for game, score in scores.items() if game is not None}


def _is_its_own(method: Method) -> bool:
    """Whether what was swapped is the ablation alone."""
    run = method.first
    return run.objective == "glam" and (run.ablation != "none" or run.dynamics == "glam")
