"""Published scores, shipped as csv files in ``data/``, and the human-normalised score computed from them.

Scores are in game points, the return of one episode without reward clipping. Source: GLAM (arXiv 2501.11949), Table 1,
with the random and human references as printed there.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class ReferenceScores:
    """Mean episode return, in game points, of a uniformly random policy and of a human player."""

    random: float
    human: float


def read_data(name: str, folder: str = "envs") -> list[dict[str, str]]:
    """Read a csv file of ``data/``: a dict for each row, without the comments at its head."""
    text = files(f"torchrl_glam.{folder}").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def atari_100k_scores() -> dict[str, dict[str, float | None]]:
    """Read GLAM's Table 1: the mean score of 5 seeds x 20 evaluation episodes at the final checkpoint.

    Returns:
        ``{game: {column: score}}`` in the table's order, in game points. The columns are ``random``, ``human`` and one
        for each method; a score that was not reported is ``None``.

    Examples:
        >>> atari_100k_scores()["Pong"]["GLAM"]
        18.0
    """
    rows = read_data("atari100k_table1.csv")
    return {row.pop("game"): {column: _score(cell) for column, cell in row.items()} for row in rows}


def atari_100k_games() -> tuple[str, ...]:
    """Return the names of the 26 games of the Atari 100k benchmark, in alphabetical order and ALE's spelling."""
    return tuple(atari_100k_scores())


def reference_scores(game: str) -> ReferenceScores | None:
    """Return the random and human scores of ``game``, or ``None`` if it is not one of the 26.

    Args:
        game: a name from :func:`atari_100k_games`, such as ``"Pong"``.

    Examples:
        >>> reference_scores("Pong")
        ReferenceScores(random=-21.0, human=15.0)
    """
    row = atari_100k_scores().get(game)
    if row is None:
        return None
    random, human = row["random"], row["human"]
    assert random is not None, f"Table 1 has no random score for {game}"
    assert human is not None, f"Table 1 has no human score for {game}"
    return ReferenceScores(random, human)


def game_name(env_name: str) -> str | None:
    """Return the game in an ALE environment's name; ``None`` for any other environment.

    Examples:
        >>> game_name("ALE/Pong-v5")
        'Pong'
    """
    match = re.fullmatch(r"ALE/(\w+)-v\d+", env_name)
    return match[1] if match else None


def human_normalised_score(env_name: str, score: float) -> float | None:
    """Return a score on the scale where a random policy has 0 and a human player 1.

    ``(score - random) / (human - random)``

    Args:
        env_name: the environment's name, such as ``"ALE/Pong-v5"``.
        score: the mean episode return in game points, without reward clipping.

    Returns:
        The normalised score, as a fraction and not in per cent, or ``None`` where there are no references.

    Examples:
        >>> human_normalised_score("ALE/Pong-v5", -3)
        0.5
    """
    game = game_name(env_name)
    reference = reference_scores(game) if game else None
    if reference is None:
        return None
    return (score - reference.random) / (reference.human - reference.random)


def _score(cell: str) -> float | None:
    return None if cell == "-" else float(cell)
