"""Options of an offline dataset made here: a teacher learns a task, and what it does is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hydra.core.config_store import ConfigStore


class Quality(Enum):
    """How good the recorded policy is, as in D4RL (arXiv 2004.07219, Section 5)."""

    medium = "medium"  # a policy between the random one and the expert
    replay = "replay"  # all that the teacher did until it was as good as that
    expert = "expert"  # the best policy
    mixed = "mixed"  # half of each


class Algorithm(Enum):
    """How the teacher learns; ``auto`` is PPO for discrete actions, and mostly SAC for continuous ones."""

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
    """A teacher for continuous actions (Haarnoja et al., 2018, "Soft Actor-Critic Algorithms and Applications")."""

    num_envs: int = 8
    frames_per_batch: int = 32  # environment steps between updates, of all environments together
    updates_per_frame: float = 0.5  # gradient steps per environment step
    batch_size: int = 256
    warmup_frames: int = 2000  # environment steps of uniform actions
    width: int = 128  # of the two hidden layers of each network
    lr: float = 1e-3
    alpha: float = 0.2  # weight of the entropy at first; it adapts until the entropy is -action size
    gamma: float = 0.99
    tau: float = 0.005  # share of the new weights in the target critics after an update


@dataclass
class PPOConfig:
    """A teacher for any actions (Schulman et al., 2017, "Proximal Policy Optimization Algorithms")."""

    num_envs: int = 8
    frames_per_batch: int = 1024  # environment steps between updates, of all environments together
    epochs: int = 10
    batch_size: int = 128
    width: int = 64  # of the two hidden layers of each network
    lr: float = 1e-3  # falls to 0 in a straight line
    gamma: float = 0.99
    lmbda: float = 0.95
    clip_epsilon: float = 0.2
    entropy_coeff: float = 0.0
    max_norm: float = 0.5


@dataclass
class TeacherConfig:
    """What is learnt, and how: a folder of one teacher serves every quality."""

    env: TaskConfig = field(default_factory=TaskConfig)
    seed: int = 0
    teacher: Algorithm = Algorithm.auto  # auto: PPO for discrete actions and InvertedPendulum, else SAC
    total_frames: int | None = None  # environment steps of the training; None: what suits the task
    snapshots: int = 40  # copies of the policy that are kept and evaluated, at equal distances
    evaluation_episodes: int = 8  # of each snapshot
    reference_episodes: int = 40  # of the random policy, and of the best snapshot
    sac: SACConfig = field(default_factory=SACConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)


@dataclass
class NewDatasetConfig(TeacherConfig):
    """One dataset."""

    quality: Quality = Quality.medium
    steps: int | None = None  # transitions; None: 100,000, or for quality=replay as many as there are
    medium: float = 0.4  # where the medium policy, sampled, is between the random one (0) and the greedy expert (1)
    until: Until = Until.medium  # how much of the training quality=replay holds
    teacher_dir: str | None = None  # None: runs/teachers/TASK-seedSEED
    dataset_id: str | None = None  # (namespace/)name-v0; None: after task and quality
    root: str | None = None  # folder of datasets; None: MINARI_DATASETS_PATH or Minari's own


ConfigStore.instance().store(name="new_dataset_config", node=NewDatasetConfig)
