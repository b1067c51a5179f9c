"""Predictions of a run's networks for real steps, and where imagination goes from there.

``n`` contexts, ``c`` steps of each, ``h`` horizon, ``k c`` categoricals and classes, ``d`` width of the belief.
"""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor

from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.modules.heads import raw_mean
from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.tools.diagnosis.steps import RealSteps
from torchrl_glam.tools.imagination import imagine_actions

AT_ONCE = 512  # contexts, or frames: some 100 MB at the paper's sizes


@torch.no_grad()
def encode(world_model: GLAMWorldModel, steps: RealSteps) -> Tensor:
    """Return latents ``[n k*c]`` of real steps, sampled once as in acting, on the world model's device."""
    device, before, parts = next(world_model.parameters()).device, steps.before, []
    for now in torch.arange(len(steps)).split(AT_ONCE):
        read = (now, before[now]) if world_model.sees_differences else (now,)
        parts.append(world_model.encode(*(world_model.observation(steps.observation[at]).to(device) for at in read)))
    return torch.cat(parts)


@torch.no_grad()
def predict(
    transition: LatentTransition, latents: Tensor, steps: RealSteps, last: Tensor, context: int, horizon: int
) -> TensorDict:
    """Read real contexts, then imagine under the actions really taken.

    Outputs at 0 come from the belief after the context, that is from real steps only, as in ``GLAMModelLoss``. They
    predict the outcome of the context's last action. Outputs at ``h`` come after ``h`` latents sampled from the prior,
    and predict the outcome of the action ``h`` steps later.

    Args:
        transition: of the imagined environment.
        latents: ``[steps k*c]`` of all steps.
        steps: the real ones.
        last: the last step of each context ``[n]``.
        context: its length.
        horizon: of imagination; 0 for none.

    Returns:
        ``[n]`` with ``reward`` (as in imagination), ``expected`` (the mean of the head's distribution in raw units;
        ``reward`` is its mean in symlog space) and ``ending`` (logit of termination) ``[n 1+h]``, on the CPU, and
        ``state`` (a sample of the prior of the frame after the context) and ``belief``.
    """
    world_model, parts = transition.world_model, []
    for at in last.split(AT_ONCE):
        start = read_contexts(transition, latents, steps, at, context)
        action = steps.action[at[:, None] + torch.arange(1, horizon + 1)].to(latents.device)
        _, beliefs = imagine_actions(transition, (start["state"], start["belief"], start["memory"]), action)
        head = world_model.reward_head
        logits = head(beliefs)
        predicted = {
            "reward": head.decode(logits).squeeze(-1).cpu(),
            "expected": raw_mean(logits.double(), head.bins.double()).cpu(),
            "ending": world_model.termination_head(beliefs).squeeze(-1).cpu(),
        }
        parts.append(start.exclude("memory").update(predicted))
    return torch.cat(parts)


@torch.no_grad()
def read_contexts(
    transition: LatentTransition, latents: Tensor, steps: RealSteps, last: Tensor, context: int
) -> TensorDict:
    """Return ``state``, ``belief`` and ``memory`` after the contexts that end at ``last [n]``, to imagine from."""
    window = last[:, None] + torch.arange(1 - context, 1)
    action, begins = steps.action[window].to(latents.device), steps.begins[window, None].to(latents.device)
    state, belief, memory = transition.read_context(latents[window.to(latents.device)], action, begins)
    return TensorDict({"state": state, "belief": belief, "memory": memory}, [len(last)])


@torch.no_grad()
def at_states(network: TensorDictModule, states: TensorDictBase) -> TensorDictBase:
    """Return, on the CPU, all that an actor or critic writes for ``state`` and ``belief [n]``."""
    inputs = states.select("state", "belief")
    return torch.cat([network(part.copy()).exclude("state", "belief").cpu() for part in inputs.split(AT_ONCE)])
