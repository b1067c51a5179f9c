"""The random and human scores that human-normalised ones are worked out from."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from torchrl_glam.envs.scores import ReferenceScores, game_name, read_data


class References(Enum):
    """``table1``: as GLAM's Table 1 prints them, rounded; ``unrounded``: as the authors of IRIS published them."""

    table1 = "table1"
    unrounded = "unrounded"


FILES = {
    References.table1: ("atari100k_table1.csv", "envs"),
    References.unrounded: ("references_unrounded.csv", "tools.report"),
}
SOURCES = {
    References.table1: "GLAM's Table 1, rounded to points as the published scores beside them are",
    References.unrounded: "those of the authors of IRIS, which are not rounded; only published scores are",
}

Scale = Mapping[str, ReferenceScores]
"""References by game."""


def load_references(kind: References) -> dict[str, ReferenceScores]:
    """The references of the 26 games.

    Examples:
        >>> load_references(References.unrounded)["Pong"]
        ReferenceScores(random=-20.7, human=14.6)
    """
    return {row["game"]: ReferenceScores(float(row["random"]), float(row["human"])) for row in read_data(*FILES[kind])}


def benchmark_game(env: str, scale: Scale) -> str | None:
    """The game that an environment is, if there are references for it: one of the 26."""
    game = game_name(env)
    return game if game in scale else None


def normalise(game: str, score: float, scale: Scale) -> float:
    """``(score - random) / (human - random)``, a fraction.

    Examples:
        >>> normalise("Pong", 15, load_references(References.table1))
        1.0
    """
    reference = scale[game]
    return (score - reference.random) / (reference.human - reference.random)
