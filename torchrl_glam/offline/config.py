"""Options of a run that learns decisions from a dataset.

Sizes and optimizer are the Decision Transformer's for Gym tasks (arXiv 2106.01345, Table 9): we do not know those of
MambaDM.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from torchrl_glam.config.choices import Protocol
from torchrl_glam.config.parts import make_node
from torchrl_glam.config.registry import register
from torchrl_glam.config.run import RunConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.actor import BehaviourCloningActor, DecisionTransformerActor, DMambaActor, MambaDMActor
from torchrl_glam.offline.gloma import GLoMa

MODELS: dict[str, Any] = {
    name: make_node(actor, ("observation_shape", "action_size", "output_size"), partial=True)
    for name, actor in {
        "mambadm": MambaDMActor,
        "dmamba": DMambaActor,
        "dt": DecisionTransformerActor,
        "bc": BehaviourCloningActor,
    }.items()
}
"""MambaDM and what it is compared with: ``model=NAME``, whose options are the parameters of the actor's class."""


class DecisionLoss(Enum):
    """TorchRL's losses; ``auto``: ``dt`` for continuous actions, ``bc`` (cross-entropy) for discrete ones."""

    auto = "auto"
    dt = "dt"  # DTLoss, the squared error
    online_dt = "online_dt"  # OnlineDTLoss: log-likelihood with an entropy bonus
    bc = "bc"  # BCLoss: the squared error, or where there is a distribution its log-likelihood


class DecisionMemory(Enum):
    """The policy's memory: the last ``model.context`` steps, run anew each time, or a state carried along."""

    window = "window"
    carried = "carried"


@dataclass
class DatasetConfig:
    """The part of the dataset, and its folder."""

    root: str | None = None  # folder of Minari datasets; None: MINARI_DATASETS_PATH, or ~/.minari/datasets
    fraction: float = 1.0  # of its episodes
    stack: int = 1  # frames of an observation, where frames are observed


@dataclass
class OfflineEnvConfig:
    """The environment of the evaluation."""

    name: str | None = None  # None: the dataset's
    num_envs: int = 10  # played side by side, an episode each
    protocol: Protocol = Protocol.glam  # of frames, see GLAM's env.protocol; a vector's environment has none
    frame_skip: int | None = None  # of frames: emulator frames per step; None: 4 on the ALE, 1 elsewhere


@dataclass
class OfflineOptimizerConfig:
    """AdamW, a linear warm-up, then a cosine to zero."""

    lr: float = 1e-4
    weight_decay: float = 1e-4  # of matrices; not of norms, biases, embeddings and Mamba's A and D
    warmup_updates: int = 10_000
    max_norm: float = 0.25  # bound on the global gradient norm
    beta2: float = 0.999  # AdamW's


@dataclass
class OfflineEvaluationConfig:
    """The evaluation of the trained model."""

    targets: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])
    """Returns from that of a random policy (0) to the best of the dataset (1)."""
    episodes: int = 10  # per target
    every: int = 10_000  # updates between evaluations at the highest target; 0: only at the end
    memory: DecisionMemory = DecisionMemory.window


@dataclass
class OfflineConfig(RunConfig):
    """One run."""

    LENGTH: ClassVar[str] = "total_updates"
    UNIT: ClassVar[str] = "update"
    SUBJECT: ClassVar[str] = "dataset"
    HARMLESS: ClassVar[tuple[str, ...]] = (*RunConfig.HARMLESS, "env.num_envs", "log_every", "data.root", "trust")
    AGAIN: ClassVar[str] = "Evaluate it again by {evaluate}, or choose another run_dir"
    EVALUATE: ClassVar[str] = "offline evaluate"
    COMPARE: ClassVar[tuple[str, str]] = ("offline compare", "runs={folder}")

    dataset: str = MISSING  # a Minari id: (namespace/)name-v0
    trust: bool = False  # import the environment that the dataset names, which may run any code
    data: DatasetConfig = field(default_factory=DatasetConfig)
    env: OfflineEnvConfig = field(default_factory=OfflineEnvConfig)
    model: Any = MISSING  # one of MODELS
    objective: DecisionLoss = DecisionLoss.auto
    batch_size: int = 64  # windows of model.context steps
    total_updates: int = 100_000
    optimizer: OfflineOptimizerConfig = field(default_factory=OfflineOptimizerConfig)
    log_every: int = 100  # updates between rows of metrics
    evaluation: OfflineEvaluationConfig = field(default_factory=OfflineEvaluationConfig)

    @classmethod
    def schema_for(cls, options: Any) -> Any:
        """See :meth:`RunConfig.schema_for`; only the models of :data:`MODELS` are accepted."""
        nodes = {node._target_: node for node in MODELS.values()}
        target = OmegaConf.select(options, "model._target_")
        if target not in nodes:
            name = target or OmegaConf.select(options, "model.name")
            raise UsageError(f"its model {name!r} is of an earlier version of torchrl_glam, or none of its models")
        return cls(model=nodes[target])


def model_name(config: OfflineConfig) -> str:
    """Return the name of the model in :data:`MODELS`.

    Raises:
        UsageError: if it is none of them.
    """
    names = {node._target_: name for name, node in MODELS.items()}
    target = getattr(config.model, "_target_", None)
    if target not in names:
        raise UsageError(f"model._target_={target} is no model: choose one by model={'|'.join(MODELS)}")
    return names[target]


ConfigStore.instance().store(name="offline_config", node=OfflineConfig)
for _name, _node in MODELS.items():
    ConfigStore.instance().store(group="model", name=_name, node=_node, provider="torchrl_glam")
register({("network", "glam_gloma"): GLoMa, ("network", "glam_mambadm"): MambaDMActor})
