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
)


@dataclass
class Agent:
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


def make_objective(agent: Agent) -> tuple[Objective, list[nn.Module]]:
    """The objective that ``objective=...`` chooses, and the modules whose parameters it trains."""
    makers = {
        Scheme.glam: _make_glam,
        Scheme.on_policy: _make_on_policy,
        Scheme.dreamer: _make_dreamer,
        Scheme.off_policy: _make_off_policy,
    }
    return makers[agent.config.objective.scheme](agent)


def _make_glam(agent: Agent) -> tuple[Objective, list[nn.Module]]:
    """STORM's agent: REINFORCE on normalised advantages, which is A2C's actor loss, and a two-hot critic."""
    options, env, critic = agent.config.agent, agent.env, agent.critic
    return_norm = PercentileValueNorm(rate=options.return_norm_rate, device=env.device)
    actor_loss = agent.make_loss(
        critic, critic_coeff=None, entropy_coeff=options.entropy_coeff, advantage_norm=return_norm
    )
    critic_loss = GLAMCriticLoss(
        critic, critic.bins, gamma=options.gamma, lmbda=options.lmbda, bootstrap=options.bootstrap.value
    )
    objective = OnPolicyObjective(
        env,
        agent.actor,
        [actor_loss, critic_loss],
        make_glam_estimate(critic_loss, return_norm),
        start=agent.start,
        target=SoftUpdate(critic_loss, tau=options.slow_critic_rate),
        compile=agent.compile,
    )
    return objective, [agent.actor, critic]


def _make_on_policy(agent: Agent) -> tuple[Objective, list[nn.Module]]:
    """A loss on actor and critic, as TorchRL's A2C, PPO and REINFORCE, or one of the user's."""
    options, objective = agent.config.agent, agent.config.objective
    loss = agent.make_loss(agent.critic)
    return OnPolicyObjective(
        agent.env,
        agent.actor,
        [loss],
        make_lambda_estimate(agent.critic, gamma=options.gamma, lmbda=options.lmbda),
        start=agent.start,
        epochs=objective.epochs,
        minibatches=objective.minibatches,
        compile=agent.compile,
    ), [loss]


def _make_dreamer(agent: Agent) -> tuple[Objective, list[nn.Module]]:
    """TorchRL's DreamerV3 losses; the critic's own bins, a slow copy that it is held to."""
    options, env, critic = agent.config.agent, agent.env, agent.critic
    actor_loss = agent.make_loss(
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
    return DreamerObjective(actor_loss, value_loss, start=agent.start, target=target), [agent.actor, critic]


def _make_off_policy(agent: Agent) -> tuple[Objective, list[nn.Module]]:
    """TorchRL's discrete SAC on a buffer of imagined transitions."""
    options, objective = agent.config.agent, agent.config.objective
    num_actions = agent.env.action_spec.shape[-1]
    loss = agent.make_loss(agent.critic, action_space="one-hot", num_actions=num_actions)
    loss.make_value_estimator(ValueEstimators.TD0, gamma=options.gamma)
    return OffPolicyObjective(
        agent.env,
        agent.actor,
        loss,
        start=agent.start,
        target=SoftUpdate(loss, tau=options.slow_critic_rate),
        capacity=objective.capacity,
        batch_size=objective.batch_size,
        updates=objective.updates,
    ), [loss]
