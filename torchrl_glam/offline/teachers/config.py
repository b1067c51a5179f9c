"""Options of an offline dataset made here: a teacher learns a task, and its steps are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hydra.core.config_store import ConfigStore


class Quality(Enum):
    """The recorded policy, as in D4RL (arXiv 2004.07219, Section 5)."""

    medium = "medium"  # a policy between the random one and the expert
    replay = "replay"  # the training's steps until it was as good as that
    expert = "expert"  # the best policy
    mixed = "mixed"  # half of medium, half of expert


class Algorithm(Enum):
    """The teacher's algorithm; ``auto`` is PPO for discrete actions, and mostly SAC for continuous ones."""

    auto = "auto"
    ppo = "ppo"
    sac = "sac"


class Until(Enum):
    """Where ``quality=replay`` ends: at the medium policy, or with the training."""

    medium = "medium"
    end = "end"


@dataclass
class TaskConfig:
    """The Gymnasium task: observations are vectors, actions ``Discrete`` or a bounded ``Box``."""

    name: str = "Hopper-v5"


@dataclass
class SACConfig:
    """Options of stable-baselines3's SAC (Haarnoja et al., 2018), by its names; for continuous actions only."""

    n_envs: int = 8
    train_freq: int = 4  # steps of each environment between updates
    gradient_steps: int = 16  # updates after these steps
    batch_size: int = 256
    learning_starts: int = 2000  # environment steps of uniform actions
    net_arch: list[int] = field(default_factory=lambda: [128, 128])  # widths of each network's hidden layers
    learning_rate: float = 1e-3
    ent_coef: float = 0.2  # weight of the entropy at first; it adapts until the entropy is -action size
    gamma: float = 0.99
    tau: float = 0.005  # share of the new weights in the target critics after an update


@dataclass
class PPOConfig:
    """Options of stable-baselines3's PPO (Schulman et al., 2017), by its names; for any actions."""

    n_envs: int = 8
    n_steps: int = 128  # steps of each environment between updates
    n_epochs: int = 10
    batch_size: int = 128
    net_arch: list[int] = field(default_factory=lambda: [64, 64])  # widths of each network's hidden layers
    learning_rate: float = 1e-3  # decreases linearly to 0
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5


@dataclass
class TeacherConfig:
    """The task and the training: one teacher's folder serves every quality."""

    env: TaskConfig = field(default_factory=TaskConfig)
    seed: int = 0
    teacher: Algorithm = Algorithm.auto  # auto: PPO for discrete actions and InvertedPendulum, else SAC
    total_frames: int | None = None  # environment steps of the training; None: a number that suits the task
    snapshots: int = 40  # copies of the policy that are kept and evaluated, at equal distances
    evaluation_episodes: int = 8  # of each snapshot
    reference_episodes: int = 40  # of the random policy, and of the best snapshot
    sac: SACConfig = field(default_factory=SACConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)


@dataclass
class NewDatasetConfig(TeacherConfig):
    """One dataset."""

    quality: Quality = Quality.medium
    steps: int | None = None  # transitions; None: 100,000, or for quality=replay all that there are
    medium: float = 0.4  # return of the medium policy, sampled, between the random one (0) and the greedy expert (1)
    until: Until = Until.medium  # how much of the training quality=replay holds
    teacher_dir: str | None = None  # None: runs/teachers/TASK-seedSEED
    dataset_id: str | None = None  # (namespace/)name-v0; None: named after task and quality
    root: str | None = None  # folder of datasets; None: MINARI_DATASETS_PATH or Minari's own


ConfigStore.instance().store(name="new_dataset_config", node=NewDatasetConfig)
