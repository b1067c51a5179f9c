"""Options of a run that learns decisions from a dataset.

Sizes and optimizer are the Decision Transformer's for Gym tasks (arXiv 2106.01345, Table 9): what we have of MambaDM
does not give its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from torchrl_glam.config.choices import Protocol
from torchrl_glam.config.run import RunConfig


class DecisionModel(Enum):
    """Who decides: MambaDM, and what it is compared with."""

    mambadm = "mambadm"
    dt = "dt"  # Decision Transformer
    dmamba = "dmamba"  # one plain stack of Mamba layers
    bc = "bc"  # behaviour cloning by an MLP that sees the observation alone


class Fusion(Enum):
    """How a GLoMa block adds its branches: 1:1 as in the paper, or with learned weights."""

    sum = "sum"
    learned = "learned"


class Branches(Enum):
    """Which branches a GLoMa block has."""

    both = "both"
    only_global = "global"
    only_local = "local"


class DecisionLoss(Enum):
    """TorchRL's losses; ``auto``: ``dt`` for continuous actions, ``bc`` (cross-entropy) for discrete ones."""

    auto = "auto"
    dt = "dt"  # DTLoss, the squared error
    online_dt = "online_dt"  # OnlineDTLoss: log-likelihood with an entropy bonus
    bc = "bc"  # BCLoss: the squared error, or where there is a distribution its log-likelihood


class DecisionMemory(Enum):
    """What acts: the last ``model.context`` steps anew each time, or a state carried from step to step."""

    window = "window"
    carried = "carried"


@dataclass
class DatasetConfig:
    """Which part of the dataset, and where it lies."""

    root: str | None = None  # folder of Minari datasets; None: MINARI_DATASETS_PATH, or ~/.minari/datasets
    fraction: float = 1.0  # of its episodes


@dataclass
class OfflineEnvConfig:
    """The environment of the evaluation."""

    name: str | None = None  # None: the dataset's
    num_envs: int = 10  # played side by side, an episode each
    protocol: Protocol = Protocol.glam  # of frames, see GLAM's env.protocol; a vector's environment has none
    frame_skip: int | None = None  # of frames: emulator frames per step; None: 4 on the ALE, 1 elsewhere


@dataclass
class DecisionModelConfig:
    """The sequence model; an option that means nothing to a model is refused."""

    name: DecisionModel = DecisionModel.mambadm
    width: int = 128
    num_layers: int = 3
    context: int = 20  # steps K of three tokens: return-to-go, observation, action
    max_steps: int = 4096  # time steps that have an embedding, the last one for all after it; 0: no time embedding
    dropout: float = 0.1
    local_length: int = 6  # tokens of the local branch's pieces
    fusion: Fusion = Fusion.sum
    branches: Branches = Branches.both
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    backend: str = "auto"  # of Mamba's scan
    num_heads: int = 1  # of the Transformer


@dataclass
class OfflineOptimizerConfig:
    """AdamW, a linear warm-up, then a cosine to zero."""

    lr: float = 1e-4
    weight_decay: float = 1e-4  # of matrices; not of norms, biases, embeddings and Mamba's A and D
    warmup_updates: int = 10_000
    max_norm: float = 0.25  # bound on the global gradient norm


@dataclass
class OfflineEvaluationConfig:
    """What the trained model is asked for."""

    targets: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    """Returns from that of a random policy (0) to the best of the dataset (1)."""
    episodes: int = 10  # per target
    every: int = 10_000  # updates between evaluations at the highest target; 0: at the end alone
    memory: DecisionMemory = DecisionMemory.window


@dataclass
class OfflineConfig(RunConfig):
    """One run."""

    LENGTH: ClassVar[str] = "total_updates"
    UNIT: ClassVar[str] = "update"
    SUBJECT: ClassVar[str] = "dataset"
    HARMLESS: ClassVar[tuple[str, ...]] = (*RunConfig.HARMLESS, "env.num_envs", "log_every", "data.root")
    AGAIN: ClassVar[str] = "Evaluate it again by examples/evaluate_offline.py, or choose another run_dir"
    COMPARE: ClassVar[str] = "python examples/compare_offline.py runs={folder}"

    dataset: str = MISSING  # a Minari id: (namespace/)name-v0
    data: DatasetConfig = field(default_factory=DatasetConfig)
    env: OfflineEnvConfig = field(default_factory=OfflineEnvConfig)
    model: DecisionModelConfig = field(default_factory=DecisionModelConfig)
    objective: DecisionLoss = DecisionLoss.auto
    batch_size: int = 64  # windows of model.context steps
    total_updates: int = 100_000
    optimizer: OfflineOptimizerConfig = field(default_factory=OfflineOptimizerConfig)
    log_every: int = 100  # updates between rows of metrics
    evaluation: OfflineEvaluationConfig = field(default_factory=OfflineEvaluationConfig)


ConfigStore.instance().store(name="offline_config", node=OfflineConfig)
