"""The parts of a diagnosis: reward and termination, frames, value, policy, and what imagination dreams up.

``n`` contexts, ``h`` horizon, ``a`` action size. Step 0 is foretold from real steps alone, step ``h`` after ``h``
imagined latents (:func:`~torchrl_glam.tools.diagnosis.predictions.predict`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

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
FORGOTTEN = 0.05  # a return is known if the discount of the first unknown reward is at most this


@dataclass(frozen=True)
class Event:
    """How well an event is foretold at a step: at this very step, and with one step of tolerance."""

    what: str
    step: int
    exact: Detection
    near: Detection


@dataclass(frozen=True)
class RewardMeans:
    """Mean rewards at a step, per step; ``None`` where there are no such steps.

    ``expected`` is the mean of what the head holds possible. ``predicted`` is less where that is uncertain: ``symexp``
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
class Dream:
    """Imagination under the policy beside what really came, from the same states on average.

    Args:
        number, horizon: rollouts, and steps of each; what follows a termination does not count.
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
    """What the policy would do in real states.

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
    """Half of the smallest reward that is not 0: what is foretold as some reward. ``None`` if all are 0."""
    some = reward[reward != 0]
    return some.abs().min().item() / 2 if len(some) else None


def reward_events(real: Tensor, predicted: Tensor, threshold: float) -> list[Event]:
    """For rewards ``[n 1+h]`` of any sign, and by sign where both occur, an event for each step."""
    kinds = {"non-zero": (real != 0, predicted.abs()), "positive": (real > 0, predicted)}
    kinds["negative"] = (real < 0, -predicted)
    both = bool((real > 0).any() and (real < 0).any())
    events: list[Event] = []
    for what, (flags, score) in kinds.items():
        if both or what == "non-zero":
            events += foretold(what, flags, score > threshold, score)
    return events


def ending_events(real: Tensor, logit: Tensor) -> list[Event]:
    """For terminations ``[n 1+h]``, foretold where their probability exceeds 1/2."""
    return foretold("termination", real, logit > 0, logit)


def foretold(what: str, real: Tensor, said: Tensor, score: Tensor) -> list[Event]:
    """An event for each step of ``[n 1+h]``."""
    near_real, near_said = widen(real), widen(said)
    events = []
    for step in range(real.shape[1]):
        at = (real[:, step], said[:, step], score[:, step])
        near = detect(*at, near_real=near_real[:, step], near_said=near_said[:, step])
        events.append(Event(what, step, detect(*at), near))
    return events


def reward_means(real: Tensor, predicted: Tensor, expected: Tensor) -> list[RewardMeans]:
    """Means for each step of rewards ``[n 1+h]``."""

    def mean(values: Tensor) -> float | None:
        return values.mean().item() if len(values) else None

    rows = []
    for step, (true, guess, hope) in enumerate(zip(real.T, predicted.T, expected.T, strict=True)):
        some = true != 0
        means = (mean(true[some]), mean(guess[some]), mean(guess[~some]))
        rows.append(RewardMeans(step, true.mean().item(), guess.mean().item(), hope.mean().item(), *means))
    return rows


def frame_errors(comparison: Comparison, context_frame: Tensor) -> list[FrameErrors]:
    """Errors for each step.

    Args:
        comparison: of :func:`~torchrl_glam.tools.pictures.comparison.compare_imagination`, of windows ``[r t]``.
        context_frame: uint8 ``[r h w 3]``, the last real frame before the steps.
    """
    real = comparison.frames["real"]
    guesses = {**comparison.frames, "context frame": context_frame[:, None].expand_as(real)}
    del guesses["real"]
    moved = (real.int() - context_frame[:, None].int()).abs().amax(-1) > MOVED
    rows = []
    for step in range(real.shape[1]):
        at, whole, there = moved[:, step], {}, {}
        for name, guess in guesses.items():
            error = (guess[:, step].int() - real[:, step].int()).abs().double().mean(-1) / 255
            whole[name] = error.mean().item()
            if at.any():
                there[name] = error[at].mean().item()
        rows.append(FrameErrors(step + 1, at.double().mean().item(), whole, there))
    return rows


def value_part(value: Tensor, at: Tensor, steps: RealSteps, gamma: float) -> Calibration | None:
    """Values ``[n]`` at the steps of the numbers ``at [n]``, against the discounted returns that followed from there.

    Steps whose return is cut off before the discount has fallen to ``FORGOTTEN`` are left out.
    """
    returns, rest = discounted_returns(steps.reward, steps.terminated, steps.ends, gamma)
    known = rest[at] <= FORGOTTEN
    return calibrate(value[known], returns[at][known])


def dream_part(rollout: TensorDictBase, steps: RealSteps) -> Dream:
    """From an imagined ``rollout [n h]``, with ``value_target`` if there is a critic."""
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
        curve=[(reward[:, step][alive[:, step]].mean().nan_to_num()).item() for step in range(reward.shape[1])],
    )


def policy_part(acted: TensorDictBase, taken: Tensor) -> PolicyPart:
    """From what the actor wrote ``[n]`` and the actions really ``taken [m a]``."""
    logits = acted.get("logits", None)
    if logits is None:
        entropy = -acted["action_log_prob"].mean().item()
        wanted, most = acted["action"], None
    else:
        logs = logits.log_softmax(-1)
        wanted = logs.exp()
        entropy, most = -(wanted * logs).sum(-1).mean().item(), torch.tensor(logits.shape[-1]).log().item()
    return PolicyPart(len(acted), entropy, most, wanted.mean(0).tolist(), taken.float().mean(0).tolist())
