"""Options of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf

from torchrl_glam.config.choices import (
    Color,
    Device,
    Logger,
    Matmul,
    Observation,
    Precision,
    Protocol,
    ReplayPlace,
    Starts,
)
from torchrl_glam.config.imagination import ImaginationConfig
from torchrl_glam.config.parts import GROUPS, make_node, node_from_path
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training import AgentConfig, GLAMObjective

INIT_PARTS = ("world_model", "actor", "critic")

_WorldModelNode = make_node(GLAMWorldModel, ("action_size", "image_shape", "vector_size"), partial=True)


def WorldModelConfig(**options: Any) -> Any:
    """Encoder, latent, backbone, heads, decoder (STORM Tables 4 and 5): the options of :class:`GLAMWorldModel`."""
    parts = {name: group.node(next(iter(group.choices.values())))() for name, group in GROUPS.items() if group.choices}
    return _WorldModelNode(**{**parts, **options})


ModelLossConfig: Any = make_node(GLAMModelLoss, ("world_model", "more_terms"), partial=True)
"""Weights and bounds of the world-model loss (GLAM Eq. 7-12): the options of :class:`GLAMModelLoss`."""


@dataclass
class EnvConfig:
    """The real environment."""

    name: str = "ALE/Pong-v5"  # a Gymnasium name, or module:Name-v0
    protocol: Protocol = Protocol.glam  # of the evaluation, and of sticky actions and no-ops
    num_envs: int = 1  # played side by side; on the ALE by its own vector environment
    frame_skip: int | None = None  # emulator frames per step; None: 4 on the ALE, 1 elsewhere
    observation: Observation = Observation.auto  # auto: all that there is; pixels are rendered if none are observed
    pixels_key: str | None = None  # the entry that is the image, where several are
    image_size: int | None = 64  # height and width; None: the image's own
    color: Color = Color.rgb  # of the image


@dataclass
class OptimizerConfig:
    """Adam and the bound on the global gradient norm."""

    lr: float = MISSING
    eps: float = 1e-8
    beta2: float = 0.999  # memory of the squared gradients; less forgets the first, huge ones sooner
    max_norm: float = MISSING


@dataclass
class ReplayConfig:
    """Real data and the world model's batches (GLAM section "Experiments": batch 32, length 64)."""

    capacity: int = 100_000
    batch_size: int = 32
    batch_length: int = 64
    newest: int = 0  # newest windows in every batch, contexts too (released code: 5), the rest uniform over the older
    rewarded: int = 0  # windows of the world model's batches that are drawn around a reward, gains as often as losses
    device: ReplayPlace = ReplayPlace.auto  # auto: the networks' device if it fits there


@dataclass
class TrainingConfig:
    """Schedule of the updates (STORM: one per environment step), and the means of training."""

    warmup_frames: int = 1024  # environment steps of uniform actions before the first update
    world_model_every: int = 1  # environment steps between world-model updates
    policy_every: int = 1  # environment steps between policy updates
    log_every: int = 100  # environment steps between rows of metrics
    media_every: int = 20_000  # environment steps between pictures and videos of imagination; 0: only after the last
    compile: bool = False  # the imagined step; on CUDA also losses, but Dreamer's and SAC's, and a graph of imagination
    precision: Precision = Precision.float32
    matmul: Matmul = Matmul.highest  # of float32 matrix products on CUDA; high: TF32, faster and rounded at 1e-3
    keep_memory: bool = True  # glibc: freed memory is kept for reuse, which is faster; see allocator.py
    overlap: bool = False  # the emulator steps during the updates; actions are then one update behind


@dataclass
class CheckpointConfig:
    """When a run saves itself. A run is the same whenever it does."""

    every: int = 5000  # steps between checkpoints: of the environment, or updates of an offline run
    minutes: float = 10.0  # between them at most; 0: only as ``every`` says
    keep: int = 2  # newest ones kept; of GLAM, the one with the best return in training besides


@dataclass
class RunConfig:
    """Options of any run, whatever it trains.

    Attributes:
        LENGTH: the option that says how many steps it takes.
        UNIT: what a step is.
        SUBJECT: the option that says what it is about.
        HARMLESS: options, or groups of them, that may differ when a run resumes: what it computes stays the same.
        AGAIN: what to do with a run that is finished; ``{evaluate}`` stands for the command EVALUATE.
        EVALUATE, COMPARE: commands of ``glam``, and what the second one is given.
    """

    LENGTH: ClassVar[str]
    UNIT: ClassVar[str] = "step"
    SUBJECT: ClassVar[str] = "env.name"
    HARMLESS: ClassVar[tuple[str, ...]] = ("run_dir", "resume", "logger", "checkpoint", "evaluation", "threads")
    AGAIN: ClassVar[str]
    EVALUATE: ClassVar[str] = "evaluate"
    COMPARE: ClassVar[tuple[str, str]] = ("report", "{folder}")

    seed: int = 0  # of weights, draws and the environment
    device: Device = Device.auto
    threads: int | None = None  # of torch on the CPU; None: torch's own choice. Sums over more are rounded otherwise
    preset: str = "auto"
    run_dir: str = MISSING  # on the command line one folder per run, see configs/
    resume: str = "auto"  # auto, true (there must be a run), false (there must be none), force (with other options)
    logger: Logger = Logger.csv
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    @classmethod
    def schema_for(cls, options: Any) -> Any:
        """Return the schema of saved options, with the parts that they name; any that they lack stay missing."""
        return cls

    @property
    def num_steps(self) -> int:
        """Number of steps that the run takes."""
        return int(getattr(self, self.LENGTH))


@dataclass
class EvaluationConfig:
    """The evaluation at the end."""

    episodes: int | None = None  # None: the protocol's number; 0: no evaluation
    greedy: bool = False  # sampled actions, as STORM evaluates


@dataclass
class GLAMConfig(RunConfig):
    """One run of GLAM."""

    LENGTH: ClassVar[str] = "total_frames"
    HARMLESS: ClassVar[tuple[str, ...]] = (
        *RunConfig.HARMLESS,
        "check",
        "total_frames",
        "replay.device",
        "training.keep_memory",
        "training.log_every",
        "training.media_every",
    )
    AGAIN: ClassVar[str] = "Evaluate it again by {evaluate}, or train on by a larger total_frames"

    run_dir: str = "runs/glam"
    env: EnvConfig = field(default_factory=EnvConfig)
    ablation: str = "none"
    total_frames: int = 100_000  # environment steps: 400 k emulator frames on the ALE
    init_from: str | None = None  # folder of a run or an export whose weights this one begins with, where they fit
    init_parts: list[str] = field(default_factory=lambda: list(INIT_PARTS))  # what of it
    check: bool = False  # --check: look at the machine and the options, and train nothing
    world_model: Any = field(default_factory=WorldModelConfig)
    model_loss: Any = field(default_factory=ModelLossConfig)
    model_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-4, max_norm=1000.0))
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    objective: Any = field(default_factory=lambda: GROUPS["objective"].node(GLAMObjective)(name="glam"))
    agent_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-5, eps=1e-5, max_norm=100.0))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @classmethod
    def schema_for(cls, options: Any) -> Any:
        """See :meth:`RunConfig.schema_for`."""
        return make_schema({name: _named_class(options, group.place) for name, group in GROUPS.items()}, cls)

    def longest_sequence(self) -> int:
        """Return the most tokens that the backbone reads in a row: of a batch, of a context and its imagination."""
        batch, imagination = self.replay.batch_length, self.imagination
        context = batch if imagination.starts is Starts.batch else imagination.context_length
        return max(batch, context + imagination.horizon_max, self.agent.context_length)

    def first_start(self) -> int:
        """Return the first step of a sequence that imagination may start from, with ``imagination.starts=batch``."""
        return max(self.model_loss.first_valid, self.imagination.context_length - 1)


def _named_class(options: Any, place: str) -> str | None:
    """Return the import path of the class that a part's saved options name; None for a part that is missing.

    Raises:
        UsageError: if the part is there, and names none.
    """
    part = OmegaConf.select(options, place, default=MISSING)
    if part == MISSING:
        return None
    target = part.get("_target_") if isinstance(part, DictConfig) else None
    if not isinstance(target, str):
        raise UsageError(f"{place} has no _target_, the import path of the class that it is of")
    return target


Schema = TypeVar("Schema", bound=GLAMConfig)


def make_schema(targets: Mapping[str, str | None], schema: type[Schema] = GLAMConfig) -> Schema:  # type: ignore[assignment]
    """Make the options of a run in which each part is the one that ``targets`` names, or still missing.

    Args:
        targets: the import path of a part's class, by the name of its group.
        schema: the dataclass of the options.

    Raises:
        UsageError: if one cannot be imported, or is no such part.
    """
    parts = {name: node_from_path(name, target) if (target := targets.get(name)) else MISSING for name in GROUPS}
    objective = parts.pop("objective")
    return schema(world_model=WorldModelConfig(**parts), objective=objective)
