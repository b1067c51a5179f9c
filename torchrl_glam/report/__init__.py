"""Published Atari 100k scores and the human-normalised score."""

from __future__ import annotations

from torchrl_glam.report.scores import (
    ReferenceScores,
    atari_100k_games,
    atari_100k_scores,
    game_name,
    human_normalised_score,
    reference_scores,
)

__all__ = [
    "ReferenceScores",
    "atari_100k_games",
    "atari_100k_scores",
    "game_name",
    "human_normalised_score",
    "reference_scores",
]
