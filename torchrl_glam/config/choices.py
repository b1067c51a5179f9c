"""The options that choose among a few names. (OmegaConf 2.3 knows no ``Literal``.)"""

from __future__ import annotations

from enum import Enum


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


class Decoding(Enum):
    """What is said of an uncertain scalar: ``symexp`` of its mean in ``symlog`` space (STORM), or its ``raw`` mean."""

    symlog = "symlog"
    raw = "raw"


class Sees(Enum):
    """What the actor sees of the current real frame: the ``prior``'s sample (STORM) or the ``posterior``'s."""

    prior = "prior"
    posterior = "posterior"


class Backbone(Enum):
    """The sequence backbone; ``custom`` is a class of yours, ``world_model.dynamics.target``."""

    glam = "glam"
    lmamba_only = "lmamba_only"
    double_mamba = "double_mamba"
    storm = "storm"
    double_transformer = "double_transformer"
    custom = "custom"


class Scheme(Enum):
    """How an objective learns from imagination, see :mod:`torchrl_glam.training`."""

    glam = "glam"
    on_policy = "on_policy"
    dreamer = "dreamer"
    off_policy = "off_policy"
