"""Options of imagination, and of the agent that learns in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchrl_glam.config.choices import Bootstrap, ImaginedMemory, Scheme, Sees, Starts


@dataclass
class ImaginationConfig:
    """Imagined rollouts: GLAM Eq. 11, ``min(horizon + horizon_step * floor(frames / horizon_every), horizon_max)``."""

    batch_size: int = 1024
    starts: Starts = Starts.replay
    context_length: int = 16  # real steps before each rollout; starts=batch has those of its batch
    memory: ImaginedMemory = ImaginedMemory.carried
    window: int = 8  # tokens that memory=sliding sees
    horizon: int = 16
    horizon_step: int = 8
    horizon_every: int = 25_000
    horizon_max: int = 32

    def horizon_at(self, frames: int) -> int:
        """The horizon after ``frames`` environment steps (Eq. 11)."""
        return min(self.horizon + self.horizon_step * (frames // self.horizon_every), self.horizon_max)


@dataclass
class AgentConfig:
    """Actor and critic (STORM section 3.3 and Table 5)."""

    hidden: int = 512
    num_layers: int = 2
    gamma: float = 0.985
    lmbda: float = 0.95  # not discrete_sac
    entropy_coeff: float = 3e-4  # glam, a2c, ppo, dreamer_v3
    slow_critic_rate: float = 0.02  # 1 - decay 0.98; wherever there are target parameters
    return_norm_rate: float = 0.01  # 1 - decay 0.99; glam, dreamer_v3
    bootstrap: Bootstrap = Bootstrap.next  # not dreamer_v3, discrete_sac
    sees: Sees = Sees.prior
    context_length: int = 16  # real steps remembered while acting


@dataclass
class ObjectiveConfig:
    """What the agent's loss is (``objective=...``); the default is GLAM's, which is STORM's."""

    name: str = "glam"
    scheme: Scheme = Scheme.glam
    loss: str = "torchrl.objectives.A2CLoss"  # import path of a LossModule, called as Loss(actor, critic, **kwargs)
    kwargs: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1  # glam, on_policy: passes over each imagined rollout
    minibatches: int = 1  # glam, on_policy: gradient steps in each pass
    updates: int = 1  # off_policy: gradient steps after each rollout
    batch_size: int = 256  # off_policy: imagined transitions in each
    capacity: int = 65_536  # off_policy: imagined transitions kept
