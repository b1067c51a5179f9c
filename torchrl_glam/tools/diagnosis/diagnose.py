"""The diagnosis of a run: its networks tested on real steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor

from torchrl_glam.config import GLAMConfig, Starts
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.objectives.returns import lambda_return, make_lambda_estimator
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.tools.diagnosis.measures import Calibration
from torchrl_glam.tools.diagnosis.parts import (
    Dream,
    Event,
    FrameErrors,
    PolicyPart,
    RewardMeans,
    VectorErrors,
    dream_part,
    ending_events,
    frame_errors,
    policy_part,
    reward_events,
    reward_means,
    reward_threshold,
    value_part,
    vector_errors,
)
from torchrl_glam.tools.diagnosis.plans import PlannedMoments, PlansPart, judge_plans
from torchrl_glam.tools.diagnosis.predictions import at_states, encode, predict, read_contexts
from torchrl_glam.tools.diagnosis.probes import Probes, probe_rewards
from torchrl_glam.tools.diagnosis.steps import RealSteps
from torchrl_glam.tools.imagination import longest_memory
from torchrl_glam.tools.pictures.comparison import Comparison, compare_imagination

AtStep = TypeVar("AtStep", Event, RewardMeans)

HORIZON = 15  # steps predicted in imagination; one more is imagined, for the tolerance at the last one
IMAGINED = 2048  # contexts from which the actions really taken are imagined, at most
DREAMT = 512  # and those of the policy
FRAMES = 64  # windows whose observations are compared


@dataclass(frozen=True)
class Diagnosis:
    """The results on some real steps.

    Args:
        number: real steps.
        rewarded, terminated: how many of them brought a reward, or lost a life.
        context: real steps before a prediction.
        threshold: a reward is predicted where the prediction's size exceeds this; ``None``: no step was rewarded.
        reward, means, ending: by step, from 0; ``reward`` is empty without a threshold.
        probes: where the knowledge of rewards is lost; ``None`` with too few of them.
        frames: by step, from 1; empty if no pixels are observed.
        vector: the same of a vector.
        value: ``None`` without a critic, or where no return is known.
        dream: imagination under the policy.
        policy: its actions in real states.
        plans: what actions lead to; ``None`` if none were played.
    """

    number: int
    rewarded: int
    terminated: int
    context: int
    threshold: float | None
    reward: list[Event]
    means: list[RewardMeans]
    ending: list[Event]
    probes: Probes | None
    frames: list[FrameErrors]
    vector: list[VectorErrors]
    value: Calibration | None
    dream: Dream
    policy: PolicyPart
    plans: PlansPart | None = None


def context_length(config: GLAMConfig) -> int:
    """Return the number of real steps before imagination; with ``imagination.starts=batch``, that before acting."""
    from_batch = config.imagination.starts is Starts.batch
    return config.agent.context_length if from_batch else config.imagination.context_length


@torch.no_grad()
def diagnose(run: LoadedRun, steps: RealSteps, context: int, planned: PlannedMoments | None = None) -> Diagnosis:
    """Compare the run's predictions with what really happened.

    Latents and actions are sampled: seed torch for the same result again.

    Args:
        run: the networks.
        steps: the real steps.
        context: number of steps that are read before a prediction.
        planned: plans that were played among these steps.

    Raises:
        UsageError: if no episode has as many steps as are wanted, or the backbone remembers fewer.
    """
    every, far = _choose_contexts(run, steps, context)
    env = run.make_imagined_env()
    latents = encode(run.world_model, steps)
    now = predict(env.transition, latents, steps, every, context, 0)
    ahead = predict(env.transition, latents, steps, far, context, HORIZON + 1)
    later = far[:, None] + torch.arange(HORIZON + 2)
    threshold = reward_threshold(steps.reward)

    def compare(compared: Callable[..., list[AtStep]], real: Tensor, *guesses: str) -> list[AtStep]:
        """Compare step 0 in all contexts, and the imagined steps, which start from fewer."""
        first = compared(real[every, None], *map(now.get, guesses))
        others = compared(real[later], *map(ahead.get, guesses))
        return first + [row for row in others if 1 <= row.step <= HORIZON]

    followed = ~steps.ends[every]
    at = every[followed] + 1
    imagined = now.select("state", "belief")[followed.to(latents.device)]
    seen = imagined.copy().set("state", latents[at.to(latents.device)])
    from_batch = run.config.imagination.starts is Starts.batch
    critic = run.critic if run.critic is not None and "state_value" in run.critic.out_keys else None
    probed = ~steps.begins[every]  # a context of one step may be an episode's first
    compared = _compare_windows(env, steps, far, context)
    return Diagnosis(
        number=len(steps),
        rewarded=int((steps.reward != 0).sum()),
        terminated=int(steps.terminated.sum()),
        context=context,
        threshold=threshold,
        reward=compare(partial(reward_events, threshold=threshold), steps.reward, "reward") if threshold else [],
        means=compare(reward_means, steps.reward, "reward", "expected"),
        ending=compare(ending_events, steps.terminated, "ending"),
        probes=probe_rewards(steps, latents, every[probed], now["belief"].cpu()[probed], now["reward"][probed, 0]),
        frames=frame_errors(compared["pixels"]) if "pixels" in compared else [],
        vector=vector_errors(compared["observation"], steps) if "observation" in compared else [],
        value=_judge_values(run, critic, seen if from_batch else imagined, at, steps),
        dream=_dream(run, critic, env, latents, steps, at, context),
        policy=policy_part(
            at_states(run.actor, seen if run.config.agent.sees == "posterior" else imagined),
            steps.action,
            block_sizes(run.action_spec),
        ),
        plans=None if planned is None else judge_plans(env.transition, latents, steps, planned, context),
    )


def _choose_contexts(run: LoadedRun, steps: RealSteps, context: int) -> tuple[Tensor, Tensor]:
    """Return the last steps of all contexts, and of contexts that as many steps follow as are imagined."""
    length = context + HORIZON + 1
    remembered = longest_memory(run.world_model.dynamics)
    if remembered is not None and remembered < length:
        raise UsageError(
            f"context={context} and {HORIZON + 1} imagined steps, but the backbone remembers {remembered}: give "
            f"context={max(1, remembered - HORIZON - 1)}"
        )
    far = spread(steps.starts(length), IMAGINED)
    if not len(far):
        raise UsageError(
            f"of {len(steps)} real steps no {length} are of one episode ({context} before, {HORIZON + 1} after): give "
            "more records, or a shorter context"
        )
    return steps.starts(context) + context - 1, far + context - 1


def spread(numbers: Tensor, most: int) -> Tensor:
    """Choose at most ``most`` of ``numbers [n]``, evenly from all of them."""
    if len(numbers) <= most:
        return numbers
    return numbers[torch.linspace(0, len(numbers) - 1, most).long()]


def _compare_windows(env: GLAMImaginedEnv, steps: RealSteps, far: Tensor, context: int) -> dict[str, Comparison]:
    window = spread(far, FRAMES)[:, None] + torch.arange(1 - context, HORIZON + 1)
    records = steps.observation[window].set("action", steps.action[window])
    return compare_imagination(env, records.set(("next", "done"), steps.ends[window, None]), context)


def _judge_values(
    run: LoadedRun, critic: TensorDictModule | None, states: TensorDict, at: Tensor, steps: RealSteps
) -> Calibration | None:
    if critic is None:
        return None
    value = at_states(critic, states)["state_value"].squeeze(-1)
    return value_part(value, at, steps, run.config.agent.gamma)


def _dream(
    run: LoadedRun,
    critic: TensorDictModule | None,
    env: GLAMImaginedEnv,
    latents: Tensor,
    steps: RealSteps,
    at: Tensor,
    context: int,
) -> Dream:
    """Roll out the policy in imagination, for the horizon that the run has by now."""
    chosen, agent = spread(at, DREAMT), run.config.agent
    start = read_contexts(env.transition, latents, steps, chosen - 1, context)
    if run.config.imagination.starts is Starts.batch:
        start["state"] = latents[chosen.to(latents.device)]
    rollout = env.imagine(start, run.actor, run.config.imagination.horizon_at(run.frame))
    if critic is not None:
        rollout["value_target"], rollout["state_value"] = lambda_return(
            lambda states: critic(states.select(*critic.in_keys))["state_value"],
            rollout,
            make_lambda_estimator(agent.gamma, agent.lmbda),
            bootstrap=agent.bootstrap,
            lmbda=agent.lmbda,
            consecutive=True,
        )
    return dream_part(rollout, steps)
