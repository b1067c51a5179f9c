"""The options that choose among a few names. (OmegaConf 2.3 knows no ``Literal``.)"""

from __future__ import annotations

from enum import Enum


class Protocol(Enum):
    """Evaluation protocol, see :data:`torchrl_glam.envs.PROTOCOLS`."""

    glam = "glam"
    standard = "standard"


class Observation(Enum):
    """What is observed of the environment, see :func:`torchrl_glam.envs.adapt_env`."""

    auto = "auto"
    pixels = "pixels"
    state = "state"
    mixed = "mixed"


class Color(Enum):
    """Channels of an image: 3, 1, or as many as the environment's own has."""

    rgb = "rgb"
    grey = "grey"
    native = "native"


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


class Matmul(Enum):
    """The inputs of float32 matrix products on CUDA: float32 (``highest``), or TF32, of 10 bits, on tensor cores."""

    highest = "highest"
    high = "high"


class Precision(Enum):
    """``bfloat16``: matrix products and convolutions under autocast; latents, scans and losses stay in float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
