"""Made-up results of offline runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from torchrl_glam.offline import results as offline

RESULT = {
    "dataset": "hopper/medium-v0",
    "env": "Hopper-v5",
    "model": "mambadm",
    "preset": "gym",
    "seed": 0,
    "loss": "dt",
    "memory": "window",
    "total_updates": 20_000,
    "parameters": 700_000,
    "transitions": 100_000,
    "fraction": 1.0,
    "width": 128,
    "random_score": 0.0,
    "expert_score": 200.0,
    "seconds": 12.5,
    "device": "cpu",
}


def result(mean: float = 100.0, **changes) -> dict:
    """A result whose highest target, 180, came to ``mean``, and the lower one, 90, to half of it."""
    content = {**RESULT, **changes}
    random, expert = content["random_score"], content["expert_score"]
    normalised = None if expert is None else 100 * (mean - random) / (expert - random)
    content["evaluations"] = [
        {"target_return": 90.0, "fraction": 0.5, "returns": [mean / 2] * 2, "mean": mean / 2, "normalised": None},
        {"target_return": 180.0, "fraction": 1.0, "returns": [mean - 1, mean + 1], "mean": mean, "normalised": None},
    ]
    return {**content, "mean": mean, "normalised": normalised, **changes}


def write(folder: Path, *results: dict) -> Path:
    """Put each result into a folder of its own."""
    for number, content in enumerate(results):
        path = folder / f"run{number:02}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return folder


def read_all(folder: Path, *results: dict) -> pd.DataFrame:
    """Write the results and read the runs; none may be left out."""
    found, left_out = offline.read_runs(write(folder, *results))
    assert left_out == []
    return found


def hand_made() -> list[dict]:
    """Three seeds of MambaDM, two of DT, one of BC."""
    mamba = [result(mean, seed=seed) for seed, mean in enumerate((100.0, 120.0, 140.0))]
    transformer = [result(mean, seed=seed, model="dt") for seed, mean in enumerate((40.0, 60.0))]
    return [*mamba, *transformer, result(30.0, model="bc", width=256)]


def scaling_results() -> list[dict]:
    """Two sizes on half and on all of the data; twice the data gives 20 in return, twice the model 10."""
    return [
        result(100.0 + 20 * (share == 1.0) + 10 * (width == 64) + 2 * seed, seed=seed, **sizes)
        for share in (0.5, 1.0)
        for width in (32, 64)
        for seed in range(3)
        for sizes in [{"fraction": share, "transitions": int(1000 * share), "width": width, "parameters": 10 * width}]
    ]


def colours(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        assert min(image.size) > 300
        return {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}


def table_rows(text: str) -> list[list[str]]:
    """The cells of every Markdown table in a text, titles and rules included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
