"""GLAM's objective: the losses on real data beside those on imagined ones."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, OneHot

from tests.support.updates import make_agent, make_glam_objective
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import make_actor, make_critic
from torchrl_glam.modules.heads import symlog_two_hot_loss
from torchrl_glam.objectives import GLAMModelLoss

GAMMA, LAMBDA = 0.9, 0.8


@pytest.fixture
def parts(make_world_model, make_batch, shake):
    """An objective that learns from real returns, its critic, and the latents of a batch."""
    world_model = make_world_model()
    actor, critic = make_agent(world_model, shake)
    env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=4)
    agent = {"replay_value_coeff": 0.3, "gamma": GAMMA, "lmbda": LAMBDA}
    batch = make_batch(2, 9)
    _, latents = GLAMModelLoss(world_model).forward_with_latents(batch)
    return make_glam_objective(env, actor, critic, **agent), critic, batch, latents


def test_real_returns_are_those_of_the_rewards_that_came(parts):
    """``G_t = r_t + gamma (1 - c_t) ((1 - lambda) V_{t+1} + lambda G_{t+1})``, with ``V_t`` of ``(z_t, h_{t-1})``."""
    objective, critic, batch, latents = parts
    states = {"state": latents["state"][:, 1:], "belief": latents["belief"][:, :-1]}
    output = critic(TensorDict(states, [2, 8]))
    value = output["state_value"].detach()
    reward, goes_on = batch["next", "reward"], 1.0 - batch["next", "life_loss"].float()
    target = value[:, -1]
    returns = []
    for t in reversed(range(1, 8)):  # value[:, t - 1] is that of step t
        target = reward[:, t] + GAMMA * goes_on[:, t] * ((1 - LAMBDA) * value[:, t] + LAMBDA * target)
        returns.insert(0, target)
    wanted = symlog_two_hot_loss(output["state_value_logits"][:, :-1], torch.stack(returns, 1), critic.bins)
    losses = objective.real_terms(latents)
    torch.testing.assert_close(losses["loss_critic_replayed"], 0.3 * wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss_slow_critic_replayed"], 0.3 * wanted, rtol=1e-4, atol=1e-5)


def test_they_train_the_critic_only(parts):
    objective, critic, _, latents = parts
    sum(objective.real_terms(latents).values()).backward()
    assert all(weight.grad is not None for weight in critic.parameters())
    assert all(weight.grad is None for weight in objective.actor.parameters())
    assert all(weight.grad is None for weight in objective.env.transition.world_model.parameters())


def test_without_a_weight_there_are_none(parts):
    objective, _, _, latents = parts
    objective.agent.replay_value_coeff = 0.0
    assert objective.real_terms(latents) == {}


@pytest.mark.parametrize(("target", "grows"), [(0.9, True), (0.1, False)])
def test_the_coefficient_of_the_entropy_is_adapted_to_its_target(parts, target, grows):
    """``coeff * exp(0.02 (target - H / log n))``, within its bounds; it lies in the loss, and is saved with it."""
    objective, _, batch, _ = parts
    objective.agent.entropy_target, objective.agent.replay_value_coeff = target, 0.0
    before = float(objective.losses[0].entropy_coeff)
    for terms in objective.terms(batch, 4):
        share = float(terms["entropy"]) / math.log(3)
        assert float(terms["entropy_coeff"]) == pytest.approx(
            before * math.exp(0.02 * (target - share)), rel=5e-3
        )  # of samples
    assert (float(objective.losses[0].entropy_coeff) > before) == grows
    assert "entropy_coeff" in objective.losses[0].state_dict()


def test_a_target_of_the_entropy_wants_discrete_actions(make_world_model):
    world_model = make_world_model(action_size=2)
    env = GLAMImaginedEnv(world_model, Bounded(-1.0, 1.0, shape=(2,)), batch_size=4)
    actor = make_actor(world_model.state_size, 8, env.action_spec, hidden=8)
    critic = make_critic(world_model.state_size, 8, hidden=8)
    with pytest.raises(UsageError, match=r"entropy_target is for discrete actions"):
        make_glam_objective(env, actor, critic, entropy_target=0.4)
