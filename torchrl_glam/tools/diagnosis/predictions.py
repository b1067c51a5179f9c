"""What the networks of a run say of real steps, and where imagination goes from there.

``n`` contexts, ``c`` steps of each, ``h`` horizon, ``k c`` categoricals and classes, ``d`` width of the belief.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.modules.heads import raw_mean
from torchrl_glam.tools.diagnosis.steps import RealSteps

AT_ONCE = 512  # contexts, or frames: some 100 MB at the paper's sizes


@torch.no_grad()
def encode(world_model: GLAMWorldModel, pixels: Tensor) -> Tensor:
    """Latents ``[n k*c]`` of frames, sampled once as acting does, on the world model's device."""
    device = next(world_model.parameters()).device
    return torch.cat([world_model.encode(part.to(device)) for part in pixels.split(AT_ONCE)])


@torch.no_grad()
def predict(transition: Any, latents: Tensor, steps: RealSteps, last: Tensor, context: int, horizon: int) -> TensorDict:
    """Read real contexts, then go on in imagination under the actions really taken.

    Outputs at 0 come from the belief after the context, of real steps alone, as in ``GLAMModelLoss``: they foretell the
    outcome of the context's last action. Those at ``h`` come after ``h`` latents that were sampled from the prior, and
    foretell the outcome of the action ``h`` steps later.

    Args:
        transition: of the imagined environment, a ``LatentTransition``.
        latents: ``[steps k*c]`` of all steps.
        steps: the real ones.
        last: the last step of each context ``[n]``.
        context: its length.
        horizon: of imagination; 0 for none.

    Returns:
        ``[n]`` with ``reward`` (as imagination has it), ``expected`` (the mean of the head's distribution in raw units,
        where ``reward`` is that in symlog space) and ``ending`` (logit of termination) ``[n 1+h]``, on the CPU, and
        ``state`` (a sample of the prior of the frame after the context) and ``belief``.
    """
    parts = [_predict_part(transition, latents, steps, part, context, horizon) for part in last.split(AT_ONCE)]
    return torch.cat(parts)


def _predict_part(
    transition: Any, latents: Tensor, steps: RealSteps, last: Tensor, context: int, horizon: int
) -> TensorDict:
    world_model, device = transition.world_model, latents.device
    start = read_contexts(transition, latents, steps, last, context)
    state, belief, memory = start["state"], start["belief"], start["memory"]
    beliefs = [belief]
    for step in range(1, horizon + 1):
        state, belief, memory = transition(state, steps.action[last + step].to(device), memory)
        beliefs.append(belief)
    known, head = torch.stack(beliefs, 1), world_model.reward_head
    logits = head(known)
    return TensorDict(
        {
            "reward": head.decode(logits).squeeze(-1).cpu(),
            "expected": raw_mean(logits.double(), head.bins.double()).cpu(),
            "ending": world_model.termination_head(known).squeeze(-1).cpu(),
            "state": start["state"],
            "belief": start["belief"],
        },
        start.batch_size,
    )


@torch.no_grad()
def read_contexts(transition: Any, latents: Tensor, steps: RealSteps, last: Tensor, context: int) -> TensorDict:
    """Where imagination starts after the contexts that end at ``last [n]``: ``state``, ``belief``, ``memory``."""
    window = last[:, None] + torch.arange(1 - context, 1)
    action = steps.action[window].to(latents.device)
    tokens = transition.world_model.embedding(latents[window.to(latents.device)], action)
    belief, memory = transition.dynamics.prefill(tokens)
    state = transition.world_model.predict_state(belief)
    return TensorDict({"state": state, "belief": belief, "memory": memory}, [len(last)])


@torch.no_grad()
def at_states(network: Any, states: TensorDictBase) -> TensorDictBase:
    """What an actor or critic writes for ``state`` and ``belief [n]``, on the CPU."""
    inputs = states.select("state", "belief")
    return torch.cat([network(part.copy()).exclude("state", "belief").cpu() for part in inputs.split(AT_ONCE)])
