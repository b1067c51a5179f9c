"""The tables of results, from the files in results/: ``python docs/making/results_table.py`` writes them anew."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from torchrl_glam.envs.scores import atari_100k_scores

ROOT = Path(__file__).resolve().parents[2]
README, OBSERVATIONS = ROOT / "README.md", ROOT / "docs" / "observations.md"
MARK = "<!-- results, by docs/making/results_table.py -->\n"
PLACE = re.compile(f"(?<={re.escape(MARK)}).*?(?=<!-- end of results -->)", re.DOTALL)
HEAD = (
    "| game | preset, steps | score of each seed | random play | human | GLAM's paper, 100,000 steps | training |\n"
    "|---|---|---|---|---|---|---|\n"
)
HEAD_OF_CONTROL = (
    "| environment, steps | GLAM, each seed | stable-baselines3, each seed | random play | training of GLAM |\n"
    "|---|---|---|---|---|\n"
)
CATCH_BALL = (1.3, 5.0)  # random play, and the maximum: BENCHMARKS.md


def render() -> str:
    """Return the table: CatchBall, then each Atari game with at least two seeds of the newest ``preset=cpu``."""
    published = atari_100k_scores()
    lines = [line(read("catch_ball/seed*.json"), "CatchBall, the tests' game", *CATCH_BALL, None)]
    for folder in sorted((ROOT / "results/cpu").glob("*/seed0")):
        game = folder.parent.name
        random, row = read(f"cpu/random/{game}/result.json")[0]["mean"], published[game]
        lines.append(line(read(f"cpu/{game}/seed*/result.json"), game, random, row["human"], row["GLAM"]))
    row = published["Pong"]
    lines.append(line(read("pong_cpu/result.json"), "Pong, earlier code", row["random"], row["human"], row["GLAM"]))
    return HEAD + "".join(lines)


def render_control() -> str:
    """Return the table of control tasks, beside baselines after as many steps as the first seed."""
    lines = []
    for folder in sorted((ROOT / "results/control").iterdir()):
        runs, place = read(f"control/{folder.name}/glam_seed*/result.json"), f"control/{folder.name}"
        baselines = [read(f"{place}/{name}_seed*.json") for name in ("ppo", "sac", "dqn")]
        others = ", ".join(f"{found[0]['algorithm']} {scores(found)}" for found in baselines if found)
        steps = "; ".join(dict.fromkeys(f"{run['total_frames']:,}" for run in runs))
        random = number(read(f"{place}/random.json")[0]["mean"])
        cells = [f"{folder.name.replace('_', ' ')}, {steps}", scores(runs), others, random, cost(runs)]
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD_OF_CONTROL + "".join(lines)


def read(pattern: str) -> list[dict[str, Any]]:
    """Return the results that a pattern finds, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob(pattern))]


def line(runs: list[dict[str, Any]], name: str, random: Any, human: Any, paper: Any) -> str:
    """Return the row of one game."""
    (what,) = {(f"`{run['preset']}`", f"{run['total_frames']:,}") for run in runs}
    cells = [name, ", ".join(what), scores(runs), number(random), number(human), number(paper), cost(runs)]
    return f"| {' | '.join(cells)} |\n"


def scores(runs: list[dict[str, Any]]) -> str:
    """Return the mean return of each run's evaluation."""
    return "; ".join(number(statistics.fmean(run["returns"])) for run in runs)


def cost(runs: list[dict[str, Any]]) -> str:
    """Return how long the training took in the mean, and on what."""
    minutes, device = statistics.fmean(run["seconds"] for run in runs) / 60, runs[0]["device"]
    cores = re.sub(r"cpu \((\d+) threads\)", r"\1 CPU cores", device).replace("1 CPU cores", "1 CPU core")
    return f"{minutes:.0f} min, {cores}"


def number(value: float | None) -> str:
    """Return a score: whole if it is large."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}".removesuffix("0").removesuffix(".0")


TABLES = {README: render, OBSERVATIONS: render_control}

if __name__ == "__main__":
    for page, render_table in TABLES.items():
        page.write_text(PLACE.sub(lambda _, make=render_table: make(), page.read_text()))  # type: ignore[misc]
