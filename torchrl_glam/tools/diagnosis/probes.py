"""Probes of where the knowledge of rewards is lost: in the frames, the latents, the beliefs, or only in the head.

A probe is a logistic regression that learns to predict rewards from two thirds of the steps, and is judged on the rest.
``n`` contexts, ``x`` width of the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional
from torchrl.modules import symlog

from torchrl_glam.tools.diagnosis.measures import ranking
from torchrl_glam.tools.diagnosis.steps import RealSteps

ENOUGH = 30  # rewarded contexts, below which nothing is probed
BLOCK = 64  # steps that are held out together: neighbours know each other
COARSE = 16  # pixels of a frame's side
DECAY = 0.01  # weight of the squared coefficients, of standardised features
ITERATIONS = 60


@dataclass(frozen=True)
class Probes:
    """Rankings of held-out steps, see :class:`~torchrl_glam.tools.diagnosis.measures.Detection`.

    Args:
        held_out: rewarded steps among them.
        frames: probe of the observation, its change and the action; images of 16x16 pixels, vectors in symlog space.
        latents: probe of the same two observations' latents and the action.
        belief: probe of the belief.
        head: the reward head itself, no probe; it may have been trained on these steps.
    """

    held_out: int
    frames: float
    latents: float
    belief: float
    head: float


def probe_rewards(steps: RealSteps, latents: Tensor, last: Tensor, belief: Tensor, predicted: Tensor) -> Probes | None:
    """Probe the steps ``last [n]``, none of them the first of its episode.

    Args:
        steps: the real ones.
        latents: of all of them, ``[steps k*c]``.
        last: the steps whose reward is predicted.
        belief: ``[n d]``, there.
        predicted: rewards ``[n]``, there.

    Returns:
        ``None`` with too few rewards, or too unevenly spread ones.
    """
    rewarded, held_out = steps.reward[last] != 0, (last // BLOCK) % 3 == 2
    parts = (rewarded[held_out], rewarded[~held_out])
    if rewarded.sum() < ENOUGH or not all(part.any() and not part.all() for part in parts):
        return None
    latents, belief = latents.cpu(), belief.cpu()
    now, before = (coarse(steps.observation[at]) for at in (last, last - 1))
    action = steps.action[last].float()
    features = {
        "frames": torch.cat([now, now - before, action], 1),
        "latents": torch.cat([latents[last], latents[last - 1], action], 1),
        "belief": belief,
    }
    scores = {name: probe(entry, rewarded, held_out) for name, entry in features.items()} | {"head": predicted.abs()}
    rankings = {name: ranking(score[held_out], rewarded[held_out]) or 0.0 for name, score in scores.items()}
    return Probes(held_out=int(rewarded[held_out].sum()), **rankings)


def probe(features: Tensor, wanted: Tensor, held_out: Tensor) -> Tensor:
    """Fit a logistic regression of ``features [n x]`` where ``held_out [n]`` is false; return its scores ``[n]``."""
    seen = features[~held_out]
    features = (features - seen.mean(0)) / (seen.std(0) + 1e-3)
    weight = torch.zeros(features.shape[1] + 1, requires_grad=True)
    target = wanted[~held_out].float()
    optimizer = torch.optim.LBFGS([weight], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = features[~held_out] @ weight[1:] + weight[0]
        value = functional.binary_cross_entropy_with_logits(logits, target) + DECAY * weight[1:].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return (features @ weight[1:] + weight[0]).detach()


def coarse(observation: TensorDictBase) -> Tensor:
    """Return observations as ``[n x]``: frames ``[n h w c]`` shrunk, from 0 to 1, and vectors in symlog space."""
    parts = []
    if (pixels := observation.get("pixels", None)) is not None:
        shrunk = (functional.adaptive_avg_pool2d(some.movedim(-1, 1).float(), COARSE) for some in pixels.split(512))
        parts.append(torch.cat([some.flatten(1) / 255 for some in shrunk]))
    if (vector := observation.get("observation", None)) is not None:
        parts.append(symlog(vector))
    return torch.cat(parts, 1)
