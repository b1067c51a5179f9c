"""Tables of the runs, game by game and beside the published scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from torchrl_glam.machine.terminal import duration
from torchrl_glam.presentation import NOTHING, count
from torchrl_glam.tools.report.limits import ALL_FRAMES, MIN_SEEDS
from torchrl_glam.tools.report.panels import IMPROVEMENT, Panel
from torchrl_glam.tools.report.published import TABLE, ablation_scores, table1
from torchrl_glam.tools.report.references import normalise
from torchrl_glam.tools.report.statistics import AGGREGATES, show_estimate


def methods_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the options of each method, and the number of its runs."""
    rows = []
    for label, own in runs.groupby("method", observed=True):
        first, seeds = own.iloc[0], own.groupby("env", observed=True).size()
        rows.append(
            {
                "method": label,
                "protocol": f"{first['protocol']}, {'greedy' if first['greedy'] else 'sampled'} actions",
                "steps": f"{first['total_frames']:,}",
                "games": len(seeds),
                "seeds per game": span(seeds),
                "episodes per seed": span(own["returns"].map(len)),
                "options": first["config_hash"],
                "device": ", ".join(sorted(set(own["device"].dropna()))) or None,
            }
        )
    return pd.DataFrame(rows)


def games(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each game and method: numbers over its seeds."""
    groups = runs.assign(episodes=runs["returns"].map(len)).groupby(["env", "method"], observed=True)
    found = groups.agg(
        **{name: (name, "first") for name in ("name", "protocol", "random", "human")},
        steps=("total_frames", "first"),
        seeds=("seed", "size"),
        mean=("mean", "mean"),
        deviation=("mean", "std"),
        lowest=("mean", "min"),
        highest=("mean", "max"),
        episodes=("episodes", span),
        steps_per_second=("steps_per_second", "mean"),
        seconds=("seconds", "mean"),
    )
    return found.assign(human_normalised=normalise(found["mean"], found)).reset_index()


def games_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each game and method: the mean over seeds of their mean returns, and its cost."""
    found = games(runs)
    numbers = found[["mean", "deviation", "lowest", "highest"]].map(points, na_action="ignore")
    return pd.DataFrame(
        {
            "game": found["name"],
            "method": found["method"],
            "protocol": found["protocol"],
            "score ± over seeds": (numbers["mean"] + " ± " + numbers["deviation"]).fillna(numbers["mean"]),
            "lowest to highest seed": (numbers["lowest"] + " to " + numbers["highest"]).where(found["seeds"] > 1),
            "seeds": found["seeds"].map(lambda seeds: f"{seeds} (too few)" if seeds < MIN_SEEDS else str(seeds)),
            "episodes per seed": found["episodes"],
            "human-normalised": show(found["human_normalised"], ".3f"),
            "steps/s": show(found["steps_per_second"], ".3g"),
            "wall clock": found["seconds"].map(duration, na_action="ignore"),
        }
    )


def games_csv(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each game and method, to be written as ``games.csv``."""
    columns = ["env", "method", "protocol", "steps", "seeds", "mean", "deviation", "human_normalised"]
    return games(runs)[columns]


def runs_csv(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run, to be written as ``runs.csv``."""
    texts = {
        "actions": runs["greedy"].map({True: "greedy", False: "sampled"}),
        "episodes": runs["returns"].map(len),
        "p_random": show(runs["p_random"], ".3g"),
        **{name: show(runs[name], ".5g") for name in ("steps_per_second", "seconds", "evaluation_seconds")},
    }
    columns = ["method", "env", "protocol", "seed", "total_frames", "actions", "episodes", "cut", "mean", "normalised"]
    columns += ["p_random", "steps_per_second", "seconds", "evaluation_seconds", "device", "config_hash", "path"]
    return runs.assign(**texts)[columns].rename(columns={"total_frames": "steps", "normalised": "human_normalised"})


def random_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare each seed's episodes with random play of the same game and protocol, where there is some."""
    rows = []
    for _, own in runs[runs["random_play"].notna()].groupby(["env", "method"], observed=True):
        first, tests = own.iloc[0], zip(own["seed"], own["p_random"], strict=True)
        returns = first["random_play"]
        rows.append(
            {
                "game": first["name"],
                "method": first["method"],
                "protocol": first["protocol"],
                "score": points(own["mean"].mean()),
                "random play, measured": f"{points(sum(returns) / len(returns))} ({count(len(returns), 'episode')})",
                "seed: p": "; ".join(f"{seed}: {p:.2g}" for seed, p in tests),
            }
        )
    return pd.DataFrame(rows)


def published_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the published methods and of ours, in the games of the benchmark that were played."""
    ours = runs.pivot_table(index="game", columns="method", values="mean", observed=True)
    ours = ours.reindex(columns=runs["method"].cat.categories).map(points, na_action="ignore")
    published = show(table1().loc[ours.index], ",g")
    return published.join(ours.add_prefix("ours: ")).rename_axis("game").reset_index()


def differences(runs: pd.DataFrame) -> list[str]:
    """Return a line for each method that was not trained and evaluated like the published ones."""
    lines = []
    for run in runs.drop_duplicates("method").itertuples():
        apart = [f"{run.total_frames:,} steps, not {ALL_FRAMES:,}"] if run.total_frames != ALL_FRAMES else []
        apart += [f"protocol `{run.protocol}`, not GLAM's `glam`"] if run.protocol != "glam" else []
        apart += ["greedy actions"] if run.greedy else []
        if apart:
            lines.append(f"{run.method} cannot be compared directly: {'; '.join(apart)}.")
    return lines


def ablation_table(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Return GLAM's Table 2 beside our scores, if there are runs of an ablation in one of its games."""
    published = ablation_scores()
    of_table = runs["ablation"].isin(published.index) & runs["game"].isin(published.columns)
    nothing_else = (runs["objective"] == "glam") & ((runs["ablation"] != "none") | (runs["dynamics"] == "glam"))
    ours = runs[of_table & nothing_else]
    if (ours["ablation"] == "none").all():
        return None
    means = ours.pivot_table(index=["ablation", "method"], columns="game", values="mean", observed=True)
    means = means.reindex(columns=published.columns).map(points, na_action="ignore")
    rows = []
    for option, scores in published.iterrows():
        rows.append([f"`ablation={option}`", "published", *show(scores, ",g")])
        own = means[means.index.get_level_values("ablation") == option]
        rows += [["", f"ours: {method}", *cells] for (_, method), cells in own.iterrows()]
    return pd.DataFrame(rows, columns=["ablation", "scores", *published.columns])


def aggregates_table(panel: Panel) -> pd.DataFrame:
    """Return a row for each method, ours and the published ones, on the same games."""
    rows = []
    found = panel.aggregates[panel.aggregates["quantity"] != IMPROVEMENT]
    for (whose, method), own in found.groupby(["whose", "method"], sort=False):
        reported, numbers = own["games"].iloc[0], own.set_index("quantity")[["value", "low", "high"]]
        row = {"method": f"{whose}: {method}", "protocol": NOTHING, "steps": f"{ALL_FRAMES:,}", "seeds": NOTHING}
        if whose == "ours":
            first = panel.methods.loc[method]
            row |= {"protocol": first["protocol"], "steps": f"{first['total_frames']:,}", "seeds": first["seeds"]}
        elif reported < len(panel.games):
            row["method"] += f" ({reported} of {len(panel.games)} games)"
        row |= {name: show_estimate(*numbers.loc[name]) for name in AGGREGATES if name in numbers.index}
        rows.append({**row, "games as good as human": f"{numbers.loc['superhuman', 'value']:.0f}"})
    return pd.DataFrame(rows)


def improvement_table(panel: Panel) -> pd.DataFrame:
    """Return the probability that a run of one method beats one of another in the same game."""
    pairs = panel.aggregates[panel.aggregates["quantity"] == IMPROVEMENT]
    chances = [show_estimate(*row) for row in pairs[["value", "low", "high"]].to_numpy()]
    return pd.DataFrame({"methods": pairs["method"], IMPROVEMENT: chances})


def checks_table(checks: pd.DataFrame) -> pd.DataFrame:
    """Return what Table 1's scores give beside what is printed."""
    rows = []
    for check in checks.itertuples():
        places = 0 if check.quantity == "superhuman" else 3
        computed, low, high = (f"{value:.{places}f}" for value in (check.computed, check.low, check.high))
        bounds = computed if low == high else f"{computed} ({low} to {high})"
        verdict = "yes" if check.follows else "**no**"
        rows.append([check.method, check.quantity, bounds, check.printed, check.source, verdict])
    return pd.DataFrame(rows, columns=["method", "quantity", f"from {TABLE}", "given", "by", "follows"])


def points(value: float) -> str:
    """Return game points with as many decimals as their size needs.

    Examples:
        >>> points(32680.4), points(-19.5), points(0.25)
        ('32,680', '-19.5', '0.25')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(column: Any, form: str) -> Any:
    """Format the numbers of a column or of a table; missing ones stay missing.

    Examples:
        >>> show(pd.Series([0.0471, None]), ".2g").tolist()
        ['0.047', nan]
    """
    return column.map(f"{{:{form}}}".format, na_action="ignore")


def span(numbers: Iterable[int]) -> str:
    """Return the least and the greatest number as a text.

    Examples:
        >>> span([3, 3]), span([3, 5, 4])
        ('3', '3 to 5')
    """
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"
