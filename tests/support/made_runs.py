"""Made-up runs on disk like those of ``examples/glam_atari.py``, also of published per-seed scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PER_SEED = Path(__file__).with_name("per_seed_scores.csv")

RESULT = {
    "protocol": "glam",
    "preset": "paper",
    "ablation": "none",
    "dynamics": "glam",
    "objective": "glam",
    "total_frames": 100_000,
    "config_hash": "0123456789ab",
    "greedy": False,
    "seconds": 5000.0,
    "steps_per_second": 20.0,
    "device": "cpu (4 threads)",
}

OLD = dict.fromkeys(("ablation", "dynamics", "objective", "config_hash", "greedy", "steps_per_second"))
"""Changes that make a result one of before these were written."""


def write_run(
    folder: Path,
    game: str,
    seed: int,
    returns: Sequence[float],
    *,
    curve: Sequence[tuple[float, float]] = (),
    **changes,
) -> Path:
    """Write a run into a folder of its own; ``None`` leaves a key out."""
    content = {**RESULT, "env": game if "-v" in game else f"ALE/{game}-v5", "seed": seed, "returns": list(returns)}
    content = {**content, "mean": float(np.mean(returns)), **changes}
    place = folder / content["preset"] / f"{game.replace('/', '-')}-seed{seed}-{len(list(folder.rglob('result.json')))}"
    place.mkdir(parents=True)
    path = place / "result.json"
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    if curve:
        (place / "episode_return.csv").write_text("".join(f"{step},{value}\n" for step, value in curve))
    return path


def per_seed_scores(method: str) -> dict[str, list[float]]:
    """Return the published scores of each seed, by game."""
    rows = csv.DictReader(line for line in PER_SEED.read_text().splitlines() if not line.startswith("#"))
    own = [row for row in rows if row["method"] == method]
    return {row["game"]: [float(row[f"seed{seed}"]) for seed in range(5)] for row in own}


def write_method(folder: Path, method: str, *, games: Sequence[str] | None = None, seeds: int = 5, **changes) -> Path:
    """Write a run for each game and seed of a published method, whose preset is its name."""
    for game, scores in per_seed_scores(method).items():
        if games is None or game in games:
            for seed, score in enumerate(scores[:seeds]):
                write_run(folder, game, seed, [score], preset=method, config_hash=f"{method:0<12}", **changes)
    return folder
