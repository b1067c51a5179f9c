"""Real experience."""

from torchrl_glam.data.replay import make_replay

__all__ = ["make_replay"]
