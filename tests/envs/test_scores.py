from __future__ import annotations

import doctest
from statistics import mean, median

import pytest

from torchrl_glam.envs import scores
from torchrl_glam.envs.scores import (
    ReferenceScores,
    atari_100k_games,
    atari_100k_scores,
    game_name,
    human_normalised_score,
    reference_scores,
)


def normalised_scores(method: str) -> list[float]:
    table = atari_100k_scores()
    reported = [(game, row[method]) for game, row in table.items() if row[method] is not None]
    return [human_normalised_score(f"ALE/{game}-v5", score) for game, score in reported]


def test_the_table_has_the_26_games_and_every_column():
    table = atari_100k_scores()
    assert len(table) == 26
    assert tuple(table) == atari_100k_games() == tuple(sorted(table))
    columns = ["random", "human", "SimPLe", "TWM", "IRIS", "DreamerV3", "Hieros", "STORM", "GLAM"]
    assert all(list(row) == columns for row in table.values())


def test_only_one_score_was_not_reported():
    table = atari_100k_scores()
    missing = [(game, column) for game, row in table.items() for column, score in row.items() if score is None]
    assert missing == [("UpNDown", "Hieros")]


def test_the_table_is_a_fresh_copy():
    atari_100k_scores()["Pong"]["GLAM"] = 0.0
    assert atari_100k_scores()["Pong"]["GLAM"] == 18.0


def test_reference_scores():
    assert reference_scores("Pong") == ReferenceScores(random=-21.0, human=15.0)
    assert reference_scores("Tetris") is None


@pytest.mark.parametrize(
    ("env_name", "game"),
    [
        ("ALE/Pong-v5", "Pong"),
        ("ALE/MsPacman-v5", "MsPacman"),
        ("ALE/Tetris-v5", "Tetris"),
        ("Pong-v5", None),
        ("CartPole-v1", None),
        ("ALE/Pong", None),
        ("my/ALE/Pong-v5", None),
    ],
)
def test_game_name(env_name, game):
    assert game_name(env_name) == game


@pytest.mark.parametrize(
    ("env_name", "score", "expected"),
    [
        ("ALE/Pong-v5", 18, (18 + 21) / 36),
        ("ALE/Pong-v5", -21, 0.0),
        ("ALE/Pong-v5", 15, 1.0),
        ("ALE/Alien-v5", 1065, 837 / 6900),  # (1065 - 228) / (7128 - 228)
        ("ALE/Tetris-v5", 10, None),  # an Atari game, but not of the 26
        ("CartPole-v1", 500, None),
    ],
)
def test_human_normalised_score(env_name, score, expected):
    assert human_normalised_score(env_name, score) == pytest.approx(expected)


# Recomputed from the table and written down, apart from this code, in the comment at its head.
@pytest.mark.parametrize(
    ("method", "expected_mean", "expected_median"),
    [
        ("SimPLe", 0.333, 0.134),
        ("TWM", 0.957, 0.506),
        ("IRIS", 1.048, 0.289),
        ("DreamerV3", 1.125, 0.490),
        ("Hieros", 1.202, 0.564),
        ("STORM", 1.223, 0.428),
        ("GLAM", 1.306, 0.618),
    ],
)
def test_aggregates_of_the_published_methods(method, expected_mean, expected_median):
    normalised = normalised_scores(method)
    assert mean(normalised) == pytest.approx(expected_mean, abs=5e-4)
    assert median(normalised) == pytest.approx(expected_median, abs=5e-4)


def test_docstring_examples():
    assert doctest.testmod(scores).failed == 0
