"""The README's table of results, from the files in results/: ``python docs/making/results_table.py`` writes it anew."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from torchrl_glam.envs.scores import atari_100k_scores

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
MARK = "<!-- results, by docs/making/results_table.py -->\n"
PLACE = re.compile(f"(?<={re.escape(MARK)}).*?(?=<!-- end of results -->)", re.DOTALL)
HEAD = (
    "| game | preset, steps | score of each seed | random play | human | GLAM's paper, 100,000 steps | training |\n"
    "|---|---|---|---|---|---|---|\n"
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


def read(pattern: str) -> list[dict[str, Any]]:
    """Return the results that a pattern finds, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted((ROOT / "results").glob(pattern))]


def line(runs: list[dict[str, Any]], name: str, random: Any, human: Any, paper: Any) -> str:
    """Return the row of one game."""
    (what,) = {(f"`{run['preset']}`", f"{run['total_frames']:,}") for run in runs}
    scores = "; ".join(number(statistics.fmean(run["returns"])) for run in runs)
    minutes, device = statistics.fmean(run["seconds"] for run in runs) / 60, runs[0]["device"]
    cores = re.sub(r"cpu \((\d+) threads\)", r"\1 CPU cores", device).replace("1 CPU cores", "1 CPU core")
    cells = [name, ", ".join(what), scores, number(random), number(human), number(paper), f"{minutes:.0f} min, {cores}"]
    return f"| {' | '.join(cells)} |\n"


def number(value: float | None) -> str:
    """Return a score: whole if it is large."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}".removesuffix("0").removesuffix(".0")


if __name__ == "__main__":
    README.write_text(PLACE.sub(lambda _: render(), README.read_text()))
