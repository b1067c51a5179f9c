"""Options of imagination."""

from __future__ import annotations

from dataclasses import dataclass

from torchrl_glam.config.choices import ImaginedMemory, Starts


@dataclass
class ImaginationConfig:
    """Imagined rollouts: GLAM Eq. 11, ``min(horizon + horizon_step * floor(frames / horizon_every), horizon_max)``."""

    batch_size: int = 1024
    starts: Starts = Starts.replay
    context_length: int = 16  # real steps before each rollout; with starts=batch the fewest
    memory: ImaginedMemory = ImaginedMemory.carried
    window: int = 8  # tokens that memory=sliding sees
    horizon: int = 16
    horizon_step: int = 8
    horizon_every: int = 25_000
    horizon_max: int = 32

    def horizon_at(self, frames: int) -> int:
        """Return the horizon after ``frames`` environment steps (Eq. 11)."""
        return min(self.horizon + self.horizon_step * (frames // self.horizon_every), self.horizon_max)
