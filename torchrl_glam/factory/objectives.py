"""From ``objective=...`` to TorchRL's losses and what drives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import PercentileValueNorm, ProbabilisticActor
from torchrl.objectives import LossModule, SoftUpdate, ValueEstimators
from torchrl.objectives.dreamer_v3 import DreamerV3ValueLoss

from torchrl_glam.config import GLAMConfig, Scheme
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.factory.imports import make_from_path
from torchrl_glam.objectives import GLAMCriticLoss
from torchrl_glam.training import (
    DreamerObjective,
    Objective,
    OffPolicyObjective,
    OnPolicyObjective,
    Start,
    make_glam_estimate,
    make_lambda_estimate,
    trained_parameters,
)

Networks = dict[str, nn.Module]
"""What an objective trains, by the names under which it is saved."""


@dataclass
class Parts:
    """What an objective is made of.

    Args:
        config: the run's options.
        env: the imagined environment.
        actor, critic: the networks.
        start: from real data to where imagination starts.
        compile: compile the losses of an on-policy objective.
    """

    config: GLAMConfig
    env: GLAMImaginedEnv
    actor: ProbabilisticActor
    critic: TensorDictModule
    start: Start
    compile: bool

    def make_loss(self, *args: Any, **defaults: Any) -> LossModule:
        """``objective.loss``, made of the actor, ``args``, and ``objective.kwargs`` over ``defaults``."""
        options = self.config.objective
        kwargs = {**defaults, **options.kwargs}
        return make_from_path("objective", options.loss, LossModule, self.actor, *args, **kwargs).to(self.env.device)


def make_objective(parts: Parts) -> tuple[Objective, Networks]:
    """The objective that ``objective=...`` chooses, and what it trains."""
    makers = {
        Scheme.glam: _make_glam,
        Scheme.on_policy: _make_on_policy,
        Scheme.dreamer: _make_dreamer,
        Scheme.off_policy: _make_off_policy,
    }
    return makers[parts.config.objective.scheme](parts)


def _make_glam(parts: Parts) -> tuple[Objective, Networks]:
    """STORM's agent: REINFORCE on normalised advantages, which is A2C's actor loss, and a two-hot critic."""
    options, objective, env, critic = parts.config.agent, parts.config.objective, parts.env, parts.critic
    return_norm = PercentileValueNorm(rate=options.return_norm_rate, device=env.device)
    actor_loss = parts.make_loss(
        critic, critic_coeff=None, entropy_coeff=options.entropy_coeff, advantage_norm=return_norm
    )
    critic_loss = GLAMCriticLoss(critic, gamma=options.gamma, lmbda=options.lmbda, bootstrap=options.bootstrap.value)
    return OnPolicyObjective(
        env,
        parts.actor,
        [actor_loss, critic_loss],
        make_glam_estimate(critic_loss, return_norm),
        start=parts.start,
        target=SoftUpdate(critic_loss, tau=options.slow_critic_rate),
        epochs=objective.epochs,
        minibatches=objective.minibatches,
        compile=parts.compile,
    ), {"actor": parts.actor, "critic": critic}


def _make_on_policy(parts: Parts) -> tuple[Objective, Networks]:
    """A loss on actor and critic, as TorchRL's A2C, PPO and REINFORCE, or one of the user's."""
    options, objective = parts.config.agent, parts.config.objective
    loss, networks = parts.make_loss(parts.critic), {"actor": parts.actor, "critic": parts.critic}
    if not set(trained_parameters(loss)) <= set(trained_parameters(*networks.values())):
        networks["loss"] = loss
    bootstrap = options.bootstrap.value
    return OnPolicyObjective(
        parts.env,
        parts.actor,
        [loss],
        make_lambda_estimate(parts.critic, gamma=options.gamma, lmbda=options.lmbda, bootstrap=bootstrap),
        start=parts.start,
        target=_make_target(loss, options.slow_critic_rate),
        epochs=objective.epochs,
        minibatches=objective.minibatches,
        compile=parts.compile,
    ), networks


def _make_target(loss: LossModule, rate: float) -> SoftUpdate | None:
    """Moves the loss's target parameters, if it has any."""
    there = any(name.startswith("target_") and name.endswith("_params") for name, _ in loss.named_children())
    return SoftUpdate(loss, tau=rate) if there else None


def _make_dreamer(parts: Parts) -> tuple[Objective, Networks]:
    """TorchRL's DreamerV3 losses; the critic's own bins, a slow copy that it is held to."""
    options, env, critic = parts.config.agent, parts.env, parts.critic
    actor_loss = parts.make_loss(
        critic,
        env,
        continuation_model=env.make_continuation_model(),
        entropy_bonus=options.entropy_coeff,
        return_normalization_rate=options.return_norm_rate,
    )
    actor_loss.set_keys(state="start", belief="start")
    actor_loss.make_value_estimator(ValueEstimators.TDLambda, gamma=options.gamma, lmbda=options.lmbda)
    value_loss = DreamerV3ValueLoss(
        critic, value_loss="two_hot", actor_loss=actor_loss, slow_critic_regularization=1.0
    ).to(env.device)
    target = SoftUpdate(value_loss, tau=options.slow_critic_rate)
    objective = DreamerObjective(actor_loss, value_loss, start=parts.start, target=target)
    return objective, {"actor": parts.actor, "critic": critic}


def _make_off_policy(parts: Parts) -> tuple[Objective, Networks]:
    """TorchRL's discrete SAC on a buffer of imagined transitions; its loss holds critics shaped as the one given."""
    options, objective = parts.config.agent, parts.config.objective
    num_actions = parts.env.action_spec.shape[-1]
    loss = parts.make_loss(parts.critic, action_space="one-hot", num_actions=num_actions)
    loss.make_value_estimator(ValueEstimators.TD0, gamma=options.gamma)
    return OffPolicyObjective(
        parts.env,
        parts.actor,
        loss,
        start=parts.start,
        target=SoftUpdate(loss, tau=options.slow_critic_rate),
        capacity=objective.capacity,
        batch_size=objective.batch_size,
        updates=objective.updates,
    ), {"actor": parts.actor, "loss": loss}
