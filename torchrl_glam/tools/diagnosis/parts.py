"""The parts of a diagnosis: reward and termination, frames, value, dream and policy.

``n`` contexts, ``h`` horizon, ``a`` action size, ``x`` numbers of a vector. Step 0 is predicted from real steps only,
step ``h`` after ``h`` imagined latents (:func:`~torchrl_glam.tools.diagnosis.predictions.predict`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules import symlog

from torchrl_glam.tools.diagnosis.measures import (
    Calibration,
    Detection,
    calibrate,
    detect,
    discounted_returns,
    widen,
)
from torchrl_glam.tools.diagnosis.steps import RealSteps
from torchrl_glam.tools.pictures.comparison import Comparison

MOVED = 32  # a pixel moved if one of its colours differs by more from the last frame of the context, of 255
TINY = 1e-6  # standard deviation in symlog space up to which a dimension does not vary
FORGOTTEN = 0.05  # a return is known if the discount of the first unknown reward is at most this


@dataclass(frozen=True)
class Event:
    """Predictions of an event at a step: at this very step, and with one step of tolerance."""

    what: str
    step: int
    exact: Detection
    near: Detection


@dataclass(frozen=True)
class RewardMeans:
    """Mean rewards at a step; ``None`` where there are no such steps.

    ``expected`` is the mean of the head's distribution. ``predicted`` is less where the head is uncertain: ``symexp``
    of the mean in symlog space turns a chance of 0.1 of a reward of 100 into 0.6, where 10 is to be expected.
    """

    step: int
    real: float
    predicted: float
    expected: float
    real_where_some: float | None
    predicted_where_some: float | None
    predicted_where_none: float | None


@dataclass(frozen=True)
class FrameErrors:
    """Mean absolute errors of 1 at a step after the context: of the whole frame, and of the pixels that moved.

    Args:
        step: from 1.
        share: of pixels that moved.
        whole, moved: by guess: ``reconstructed``, ``imagined``, ``context frame``; ``moved`` is empty if none did.
    """

    step: int
    share: float
    whole: dict[str, float]
    moved: dict[str, float]


@dataclass(frozen=True)
class VectorErrors:
    """Root mean squared errors of a vector at a step after the context, in standard deviations of the real steps.

    Both in symlog space. A guess that is always the mean errs by about 1.

    Args:
        step: from 1.
        whole: by guess, the mean over the dimensions that vary: ``reconstructed``, ``imagined``, ``context frame``.
        dimensions: by guess, of each dimension; ``None`` where that does not vary.
    """

    step: int
    whole: dict[str, float]
    dimensions: dict[str, list[float | None]]


@dataclass(frozen=True)
class Dream:
    """Imagination under the policy beside the real steps.

    Args:
        number, horizon: rollouts, and steps of each; steps after a termination do not count.
        reward, real_reward: per step.
        ending, real_ending: terminations per step.
        target: mean lambda return of the first imagined step; ``None`` without a critic.
        curve: reward per step by imagined step.
    """

    number: int
    horizon: int
    reward: float
    real_reward: float
    ending: float
    real_ending: float
    target: float | None
    curve: list[float]


@dataclass(frozen=True)
class PolicyPart:
    """Actions of the policy in real states.

    Args:
        number: states.
        entropy: in nats, mean; of continuous actions the differential entropy, estimated from a sample of each.
        most: the largest possible, ``None`` for continuous actions.
        wanted, taken: mean probability of each discrete action, and its share of those really taken; for continuous
            ones the means of both.
    """

    number: int
    entropy: float
    most: float | None
    wanted: list[float]
    taken: list[float]


def reward_threshold(reward: Tensor) -> float | None:
    """Return half of the smallest reward that is not 0; larger predictions count as a reward. ``None`` if all are 0."""
    some = reward[reward != 0]
    return some.abs().min().item() / 2 if len(some) else None


def reward_events(real: Tensor, predicted: Tensor, threshold: float) -> list[Event]:
    """Count rewards ``[n 1+h]`` of any sign and, where both signs occur, of each; an event for each step."""
    events = count_events("non-zero", real != 0, predicted.abs() > threshold, predicted.abs())
    if (real > 0).any() and (real < 0).any():
        events += count_events("positive", real > 0, predicted > threshold, predicted)
        events += count_events("negative", real < 0, -predicted > threshold, -predicted)
    return events


def ending_events(real: Tensor, logit: Tensor) -> list[Event]:
    """Count terminations ``[n 1+h]``, predicted where their probability exceeds 1/2."""
    return count_events("termination", real, logit > 0, logit)


def count_events(what: str, real: Tensor, said: Tensor, score: Tensor) -> list[Event]:
    """Return an event for each step of ``[n 1+h]``."""
    columns = zip(*(entry.unbind(1) for entry in (real, said, score, widen(real), widen(said))), strict=True)
    return [
        Event(what, step, detect(*at), detect(*at, near_real=near_real, near_said=near_said))
        for step, (*at, near_real, near_said) in enumerate(columns)
    ]


def reward_means(real: Tensor, predicted: Tensor, expected: Tensor) -> list[RewardMeans]:
    """Return the means of rewards ``[n 1+h]`` for each step."""

    def mean(values: Tensor) -> float | None:
        return values.mean().item() if len(values) else None

    rows = []
    for step, (true, guess, hope) in enumerate(zip(real.T, predicted.T, expected.T, strict=True)):
        some = true != 0
        means = (mean(true[some]), mean(guess[some]), mean(guess[~some]))
        rows.append(RewardMeans(step, true.mean().item(), guess.mean().item(), hope.mean().item(), *means))
    return rows


def frame_errors(comparison: Comparison) -> list[FrameErrors]:
    """Return the errors of a comparison of windows ``[r t]`` for each step."""
    moved = (comparison.frames["real"].int() - comparison.still[:, None].int()).abs().amax(-1) > MOVED  # (r t h w)
    differences = {name: comparison.difference(guess) for name, guess in comparison.guesses.items()}
    rows = []
    for step, at in enumerate(moved.unbind(1)):
        errors = {name: difference[:, step].mean(-1) for name, difference in differences.items()}  # (r h w)
        whole = {name: error.mean().item() for name, error in errors.items()}
        there = {name: error[at].mean().item() for name, error in errors.items()} if at.any() else {}
        rows.append(FrameErrors(step + 1, at.double().mean().item(), whole, there))
    return rows


def vector_errors(comparison: Comparison, steps: RealSteps) -> list[VectorErrors]:
    """Return the errors of a comparison of windows ``[r t]`` for each step; none if no dimension varies."""
    deviation = symlog(steps.observation["observation"].double()).std(0, correction=0)
    varies = deviation > TINY
    if not varies.any():
        return []
    errors = {
        name: comparison.difference(guess).square().mean(0).sqrt() / deviation  # (t x)
        for name, guess in comparison.guesses.items()
    }
    flags = varies.tolist()
    return [
        VectorErrors(
            step + 1,
            {name: error[step, varies].mean().item() for name, error in errors.items()},
            {
                name: [value if flag else None for value, flag in zip(error[step].tolist(), flags, strict=True)]
                for name, error in errors.items()
            },
        )
        for step in range(comparison.frames["real"].shape[1])
    ]


def value_part(value: Tensor, at: Tensor, steps: RealSteps, gamma: float) -> Calibration | None:
    """Compare values ``[n]`` at the steps ``at [n]`` with the discounted returns that followed from there.

    Steps whose return is cut off before the discount has fallen to ``FORGOTTEN`` are left out.
    """
    returns, rest = discounted_returns(steps.reward, steps.terminated, steps.ends, gamma)
    known = rest[at] <= FORGOTTEN
    return calibrate(value[known], returns[at][known])


def dream_part(rollout: TensorDictBase, steps: RealSteps) -> Dream:
    """Sum up an imagined ``rollout [n h]``, which holds ``value_target`` if there is a critic."""
    outcome = rollout["next"]
    reward, ended = outcome["reward"].squeeze(-1).cpu(), outcome["terminated"].squeeze(-1).cpu()
    alive = torch.ones_like(ended)
    alive[:, 1:] = ~ended[:, :-1].cumsum(1).bool()
    target = rollout.get("value_target", None)
    return Dream(
        number=reward.shape[0],
        horizon=reward.shape[1],
        reward=reward[alive].mean().item(),
        real_reward=steps.reward.mean().item(),
        ending=ended[alive].float().mean().item(),
        real_ending=steps.terminated.float().mean().item(),
        target=None if target is None else target[:, 0].mean().item(),
        curve=[reward[there, step].mean().nan_to_num().item() for step, there in enumerate(alive.unbind(1))],
    )


def policy_part(acted: TensorDictBase, taken: Tensor, sizes: Sequence[int] | None = None) -> PolicyPart:
    """Sum up what the actor wrote ``[n]``, beside the actions really ``taken [m a]``.

    Of several discrete actions at once, ``sizes`` are their numbers of choices.
    """
    logits = acted.get("logits", None)
    if logits is None:
        entropy, most = -acted["action_log_prob"].mean().item(), None
        wanted = acted["action"]
    else:
        blocks = logits.split(sizes or logits.shape[-1], -1)
        logs = torch.cat([block.log_softmax(-1) for block in blocks], -1)
        wanted = logs.exp()
        most = sum(math.log(block.shape[-1]) for block in blocks)
        entropy = -(wanted * logs).sum(-1).mean().item()
    return PolicyPart(len(acted), entropy, most, wanted.mean(0).tolist(), taken.float().mean(0).tolist())
