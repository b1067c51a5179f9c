"""GLAM's objective: the losses on real data beside those on imagined ones."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import OneHot

from tests.support.updates import make_agent, make_glam_objective
from torchrl_glam.envs import GLAMImaginedEnv
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
