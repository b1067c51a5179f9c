"""Real experience."""

from torchrl_glam.data.replay import make_replay, newest_records

__all__ = ["make_replay", "newest_records"]
