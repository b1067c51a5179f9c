"""Imagination under given actions, and the frames it shows: shared by pictures, diagnosis and player.

``b`` starts, ``t`` steps, ``k c`` categoricals and classes, ``d`` width, ``a`` action size, ``h w`` pixels.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    GLAMWorldModel,
    GMamba,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    SlidingWindow,
    TransformerDynamics,
)
from torchrl_glam.modules.world_model import LatentTransition


@torch.no_grad()
def imagine_actions(
    transition: LatentTransition, start: tuple[Tensor, Tensor, TensorDictBase], action: Tensor
) -> tuple[Tensor, Tensor]:
    """Imagine from a start under given actions, latents sampled.

    Args:
        transition: steps the world model.
        start: ``state [b k*c]``, ``belief [b d]`` and memory, as ``transition.start`` returns them.
        action: ``[b t a]``.

    Returns:
        ``state [b 1+t k*c]`` and ``belief [b 1+t d]``; the first ones are those of the start.
    """
    state, belief, memory = start
    states, beliefs = [state], [belief]
    for taken in action.unbind(1):
        state, belief, memory = transition(state, taken, memory)
        states.append(state)
        beliefs.append(belief)
    return torch.stack(states, 1), torch.stack(beliefs, 1)


@torch.no_grad()
def imagine_frames(transition: LatentTransition, pixels: Tensor, action: Tensor, context_length: int) -> Tensor:
    """Read contexts of real frames, then imagine the frames that follow under the actions really taken.

    Args:
        transition: steps the world model, which is in eval mode.
        pixels: uint8 ``[b t h w channels]``, consecutive real frames.
        action: ``[b t a]``, the action taken at each.
        context_length: number of frames that are read; the other ``t - context_length`` are imagined.

    Returns:
        uint8 ``[b t-context_length h w channels]``; frame ``i`` stands for real frame ``context_length + i``.

    Raises:
        UsageError: unless ``0 < context_length < t``.
    """
    if not 0 < context_length < pixels.shape[1]:
        raise UsageError(f"context_length={context_length} of {pixels.shape[1]} frames: leave some to imagine")
    start = transition.start(pixels[:, :context_length], action[:, :context_length])
    states, _ = imagine_actions(transition, start, action[:, context_length:-1])
    return decode_frames(transition.world_model, states)


@torch.no_grad()
def decode_frames(world_model: GLAMWorldModel, state: Tensor) -> Tensor:
    """Return the decoder's frames of states ``[.. k*c]``, uint8 ``[.. h w channels]``."""
    return world_model.decoder(state).movedim(-3, -1).clamp(0, 1).mul(255).round().to(torch.uint8)


def longest_memory(backbone: SequenceBackbone) -> int | None:
    """Return the number of tokens that a backbone remembers; ``None`` unless there is a Transformer in it."""
    lengths = [part.max_length for part in backbone.modules() if isinstance(part, TransformerDynamics)]
    return min(lengths, default=None)


def is_endless(backbone: SequenceBackbone) -> bool:
    """Return True if a backbone can be stepped forever: not a Transformer, nor a class of the user's."""
    if isinstance(backbone, ParallelDynamics):
        return all(is_endless(branch) for branch in backbone.branches.values())
    return isinstance(backbone, GMamba | LMamba | MambaDynamics | SlidingWindow)
