"""Every backbone, small, and what the tests of them share."""

from __future__ import annotations

import torch

from torchrl_glam.modules import (
    GLAMDynamics,
    GMamba,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    TransformerDynamics,
)
from torchrl_glam.offline import GLoMaStack

WIDTH = 6
MAX_LENGTH = 12
RELEASED = {"post_norm": False, "norm_eps": 1e-6, "partial_windows": False, "first_token": True}
"""The options of ``configs/preset_dynamics/released_glam.yaml``."""


def make_transformer(width, num_layers=1, **options):
    """A Transformer of two heads."""
    return TransformerDynamics(width, num_layers=num_layers, num_heads=2, max_length=MAX_LENGTH, **options)


def make_pair(width, build):
    """Two of a kind, side by side."""
    return ParallelDynamics({"first": build(width), "second": build(width)})


BACKBONES = {
    "glam": lambda width: GLAMDynamics(width, d_state=3),
    "glam 2+2": lambda width: GLAMDynamics(width, global_layers=2, local_layers=2, d_state=3),
    "glam, no post norm": lambda width: GLAMDynamics(width, post_norm=False, d_state=3),
    "glam, released": lambda width: GLAMDynamics(width, d_state=3, **RELEASED),
    "glam 2+2, released": lambda width: GLAMDynamics(width, global_layers=2, local_layers=2, d_state=3, **RELEASED),
    "glam, window 3": lambda width: GLAMDynamics(width, window=3, d_state=3),
    "gmamba": lambda width: GMamba(width, d_state=3),
    "gmamba 2": lambda width: GMamba(width, 2, d_state=3),
    "lmamba": lambda width: LMamba(width, d_state=3),
    "lmamba 2": lambda width: LMamba(width, 2, d_state=3),
    "mamba": lambda width: MambaDynamics(width, d_state=3),
    "mamba 2": lambda width: MambaDynamics(width, num_layers=2, d_state=3),
    "two mambas": lambda width: make_pair(width, BACKBONES["mamba"]),
    "transformer": make_transformer,
    "transformer 2": lambda width: make_transformer(width, num_layers=2),
    "two transformers": lambda width: make_pair(width, make_transformer),
    "gpt 2": lambda width: make_transformer(width, num_layers=2, norm_first=True, expand=4, activation="gelu"),
    "gloma": lambda width: GLoMaStack(width, num_layers=1, local_length=3, d_state=3),
    "gloma 2, learned fusion": lambda width: GLoMaStack(
        width, num_layers=2, local_length=4, fusion="learned", d_state=3
    ),
    "gloma, global": lambda width: GLoMaStack(width, num_layers=1, branches="global", d_state=3),
    "gloma, local": lambda width: GLoMaStack(width, num_layers=1, branches="local", local_length=5, d_state=3),
}


def prepare(module, dtype=torch.float64):
    """Eval mode, and noise on every parameter, so that each matters."""
    generator = torch.Generator().manual_seed(0)
    module = module.to(dtype).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator).to(dtype))
    return module


def make_backbone(name, dtype=torch.float64) -> SequenceBackbone:
    """One of :data:`BACKBONES`, prepared."""
    torch.manual_seed(0)
    return prepare(BACKBONES[name](WIDTH), dtype)


def make_tokens(time, batch=2, dtype=torch.float64, seed=1):
    """Random tokens ``[b t d]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def unroll(backbone, tokens, memory=None):
    """Beliefs [b t d] and the memory of single steps."""
    memory = backbone.initial_memory(len(tokens)) if memory is None else memory
    beliefs = []
    for token in tokens.unbind(1):
        belief, memory = backbone.step(token, memory)
        beliefs.append(belief)
    return torch.stack(beliefs, 1), memory


def layout(memory):
    """Shape and dtype of every leaf."""
    return {key: (value.shape, value.dtype) for key, value in memory.items(True, True)}


def assert_same_memory(left, right):
    """The same keys, dtypes and, to rounding, values."""
    assert layout(left) == layout(right)
    assert layout(left)
    for key in layout(left):
        torch.testing.assert_close(left[key], right[key], msg=lambda text, key=key: f"{key}: {text}")


def layer_norm(x, norm):
    """The formula."""
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + norm.eps) ** 0.5 * norm.weight + norm.bias
