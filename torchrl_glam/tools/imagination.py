"""Imagination under given actions, and the observations it shows: shared by pictures, diagnosis and player.

``b`` starts, ``t`` steps, ``k c`` categoricals and classes, ``d`` width, ``a`` action size, ``h w`` pixels, ``n``
numbers of a vector.

Observations are TensorDicts of their entries here, whatever the world model reads: ``pixels`` uint8
``[.. h w channels]``, a vector ``observation`` ``[.. n]``, or both.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
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
from torchrl_glam.modules.autoencoders import Observation, postprocess_pixels
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
def imagine_observations(transition: LatentTransition, records: TensorDictBase, context_length: int) -> TensorDict:
    """Read contexts of real steps, then imagine what is observed afterwards under the actions really taken.

    Args:
        transition: steps the world model, which is in eval mode.
        records: consecutive real steps ``[b t]``: what the world model observes, ``action``, and
            ``("next", "done")`` for one that marks where episodes begin.
        context_length: number of steps that are read; the other ``t - context_length`` are imagined.

    Returns:
        Observations ``[b t-context_length]``; number ``i`` stands for real step ``context_length + i``.

    Raises:
        UsageError: unless ``0 < context_length < t``.
    """
    if not 0 < context_length < records.shape[1]:
        raise UsageError(f"context_length={context_length} of {records.shape[1]} frames: leave some to imagine")
    world_model, context = transition.world_model, records[:, :context_length]
    start = transition.start(world_model.observation(context), context["action"], world_model.begins(context))
    states, _ = imagine_actions(transition, start, records["action"][:, context_length:-1])
    return decode_observations(world_model, states)


@torch.no_grad()
def decode_observations(world_model: GLAMWorldModel, state: Tensor) -> TensorDict:
    """Return what the decoder makes of states ``[.. k*c]``, in the environment's units.

    That is what the encoder's ``postprocess`` makes of it, if there is one. Pixels that are floats then are taken to be
    on the 0..1 scale, channels first.
    """
    decoded = getattr(world_model.encoder, "postprocess", _same)(world_model.decoder(state))
    named = {world_model.observation_keys[0]: decoded} if isinstance(decoded, Tensor) else decoded
    observation = TensorDict(dict(named.items()), batch_size=state.shape[:-1])
    pixels = observation.get("pixels", None)
    if pixels is not None and pixels.is_floating_point():
        observation["pixels"] = postprocess_pixels(pixels)
    return observation


def _same(frames: Observation) -> Observation:
    return frames


def longest_memory(backbone: SequenceBackbone) -> int | None:
    """Return the number of tokens that a backbone remembers; ``None`` unless there is a Transformer in it."""
    lengths = [part.max_length for part in backbone.modules() if isinstance(part, TransformerDynamics)]
    return min(lengths, default=None)


def is_endless(backbone: SequenceBackbone) -> bool:
    """Return True if a backbone can be stepped forever: not a Transformer, nor a class of the user's."""
    if isinstance(backbone, ParallelDynamics):
        return all(is_endless(branch) for branch in backbone.branches.values())
    return isinstance(backbone, GMamba | LMamba | MambaDynamics | SlidingWindow)
