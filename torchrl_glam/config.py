"""Every option and its default: the paper's value (``preset=paper``), with its source.

The dataclasses, in Hydra's ConfigStore once imported, are the schema of ``configs/*.yaml``: these say what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


class Protocol(Enum):
    """Evaluation protocol, see :data:`torchrl_glam.envs.PROTOCOLS`."""

    glam = "glam"
    standard = "standard"


class Device(Enum):
    """Where networks run; ``auto`` is CUDA if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Logger(Enum):
    """Where metrics go besides the CSV files that are always written."""

    csv = "csv"
    tensorboard = "tensorboard"
    wandb = "wandb"


class VariationTarget(Enum):
    """Target of the variation loss, see :class:`torchrl_glam.objectives.GLAMModelLoss`."""

    logits = "logits"
    latent = "latent"
    features = "features"


class ImaginedMemory(Enum):
    """``carried``: the backbone's state goes from step to step; ``sliding``: restarted on the last tokens."""

    carried = "carried"
    sliding = "sliding"


class Starts(Enum):
    """Where imagination starts: after contexts from the ``replay``, or within the world model's own ``batch``."""

    replay = "replay"
    batch = "batch"


class ReplayPlace(Enum):
    """Where the replay lies, see :func:`torchrl_glam.data.ring_device`."""

    auto = "auto"
    device = "device"
    host = "host"


class Precision(Enum):
    """``bfloat16``: matrix products and convolutions under autocast; latents, scans and losses stay in float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Bootstrap(Enum):
    """``next``: V_{t+1} in the lambda return; ``current``: the released code's V_t in its place."""

    next = "next"
    current = "current"


class Sees(Enum):
    """What the actor sees of the current real frame: the ``prior``'s sample (STORM) or the ``posterior``'s."""

    prior = "prior"
    posterior = "posterior"


@dataclass
class EnvConfig:
    """The real environment."""

    name: str = "ALE/Pong-v5"
    protocol: Protocol = Protocol.glam
    frame_skip: int | None = None  # emulator frames per step; None: 4 on the ALE, 1 elsewhere


@dataclass
class DynamicsConfig:
    """GLAM's two Mambas (GLAM section "Inference module"; Mamba-1 defaults, arXiv 2312.00752)."""

    width: int = 256
    global_layers: int = 1
    local_layers: int = 1
    window: int = 4  # s, tokens that LMamba sees
    post_norm: bool = True  # Eq. 6: e + Norm(Mamba(Norm(e))); false: e + Mamba(Norm(e)), the released code
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    backend: str = "auto"  # of the selective scan


@dataclass
class WorldModelConfig:
    """Encoder, decoder, latent and heads (STORM Tables 4 and 5)."""

    channels: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    num_categoricals: int = 32
    num_classes: int = 32
    head_width: int | None = None  # None: the backbone's width
    unimix: float = 0.01
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)


@dataclass
class ModelLossConfig:
    """Weights and bounds of the world-model loss (GLAM Eq. 7-12)."""

    first_valid: int = 3
    dynamics_coeff: float = 0.5
    representation_coeff: float = 0.1
    variation_coeff: float = 0.1
    free_nats: float = 1.0
    variation_target: VariationTarget = VariationTarget.logits
    variation_free_nats: float = 1.0


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
    device: ReplayPlace = ReplayPlace.auto  # auto: the networks' device if it fits there


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
    lmbda: float = 0.95
    entropy_coeff: float = 3e-4
    slow_critic_rate: float = 0.02  # 1 - decay 0.98
    return_norm_rate: float = 0.01  # 1 - decay 0.99
    bootstrap: Bootstrap = Bootstrap.next
    sees: Sees = Sees.prior
    context_length: int = 16  # real steps remembered while acting


@dataclass
class TrainingConfig:
    """How often each part is trained (STORM: every environment step), and by which means."""

    warmup_frames: int = 1024  # environment steps of uniform actions before the first update
    world_model_every: int = 1  # environment steps between world-model updates
    policy_every: int = 1  # environment steps between policy updates
    log_every: int = 100  # environment steps between rows of metrics
    save_every: int = 5000  # environment steps between writings of weights.pt
    compile: bool = False  # the imagined step; on CUDA the updates too, and imagination is captured as a graph
    precision: Precision = Precision.float32
    keep_memory: bool = True  # glibc: freed memory is kept for reuse, which is faster; see allocator.py
    overlap: bool = False  # the emulator steps during the updates; actions are then one update behind


@dataclass
class EvaluationConfig:
    """The evaluation at the end."""

    episodes: int | None = None  # None: the protocol's number
    greedy: bool = False  # sampled actions, as STORM evaluates


@dataclass
class GLAMConfig:
    """One run."""

    env: EnvConfig = field(default_factory=EnvConfig)
    seed: int = 0
    device: Device = Device.auto
    preset: str = "auto"
    total_frames: int = 100_000  # environment steps: 400 k emulator frames on the ALE
    run_dir: str = "runs/glam"  # on the command line one folder per run, see configs/glam_atari.yaml
    logger: Logger = Logger.csv
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    model_loss: ModelLossConfig = field(default_factory=ModelLossConfig)
    model_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1e-4, max_norm=1000.0))
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    agent_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-5, eps=1e-5, max_norm=100.0))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


ConfigStore.instance().store(name="glam_config", node=GLAMConfig)
