"""Imagined steps as a term of the loss: against the imagined environment, and what must not matter."""

from __future__ import annotations

import pytest
import torch
from torchrl.data import OneHot

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.objectives.functional import kl_to_target, termination_loss

STEPS = 3


def make_loss(make_world_model, steps=STEPS, **options):
    world_model = make_world_model(expected_posterior=True, expected_prior=True, **options)
    return GLAMModelLoss(world_model, unroll_steps=steps, dynamics_coeff=0.5)


def lasting(batch):
    """The batch without terminations."""
    batch["next", "life_loss"] = torch.zeros_like(batch["next", "life_loss"])
    return batch


@pytest.mark.parametrize("residual", [False, True])
def test_it_compares_what_the_imagined_environment_predicts(make_world_model, make_batch, residual):
    loss, batch = make_loss(make_world_model, residual_prior=residual), lasting(make_batch())
    terms, world_model, start = loss(batch), loss.world_model, batch.shape[1] - STEPS
    env, action = GLAMImaginedEnv(world_model, OneHot(3)), batch["action"].float()
    with torch.no_grad():
        now = env.start(batch["pixels"][:, :start], action[:, :start])
        imagined = [now.select("state", "belief")]
        for taken in action[:, start:-1].unbind(1):
            now = env._step(now.set("action", taken))
            imagined.append(now.select("state", "belief"))
        states, beliefs = (torch.stack([step[key] for step in imagined], 1) for key in ("state", "belief"))
        posterior = world_model.encoder(batch["pixels"][:, start:])[0]
        kl = kl_to_target(posterior, states.unflatten(-1, world_model.latent_shape).log())
        outcome = batch["next"][:, start - 1 : -1]
        reward = world_model.reward_head.loss(world_model.reward_head(beliefs), outcome["reward"])
        termination = termination_loss(world_model.termination_head(beliefs), outcome["life_loss"])
    torch.testing.assert_close(terms["kl_unroll"], kl)
    torch.testing.assert_close(terms["loss_unroll"].detach(), 0.5 * kl + reward + termination)


def test_it_trains_the_model_and_not_its_targets(make_world_model, make_batch):
    loss, batch = make_loss(make_world_model), lasting(make_batch())
    loss(batch)["loss_unroll"].backward()
    trained = {name for name, weight in loss.world_model.named_parameters() if weight.grad is not None}
    parts = {name.split(".")[0] for name in trained}
    assert parts == {"encoder", "embedding", "dynamics", "prior_head", "reward_head", "termination_head"}
    pixels = batch["pixels"].clone()
    pixels[:, -1] = 255 - pixels[:, -1]  # only a target
    gradients = [weight.grad.clone() for weight in loss.world_model.encoder.parameters()]
    loss.world_model.zero_grad()
    kl = loss(batch.set("pixels", pixels))
    kl["loss_unroll"].backward()
    assert not torch.equal(gradients[0], next(loss.world_model.encoder.parameters()).grad), "other errors to explain"


def test_what_follows_a_termination_does_not_count(make_world_model, make_batch):
    """Of the predictions ``time - STEPS .. time - 1``, the first one's action ends the episode in sequence 0."""
    loss, batch = make_loss(make_world_model), lasting(make_batch())
    at = batch.shape[1] - STEPS
    batch["next", "life_loss"][0, at] = True

    def gradients(batch):
        loss.world_model.zero_grad()
        loss(batch)["loss_unroll"].backward()
        return [weight.grad.clone() for weight in loss.world_model.reward_head.parameters()]

    wanted = gradients(batch)
    later = batch.clone()
    later["next", "reward"][0, at + 1 :] += 5.0
    assert all(map(torch.equal, gradients(later), wanted))
    same = batch.clone()
    same["next", "reward"][0, at] += 5.0
    assert not all(map(torch.equal, gradients(same), wanted))


def test_gradient_in_float64(make_world_model, make_batch):
    loss = make_loss(make_world_model, residual_prior=True).double()
    batch = lasting(make_batch(1, 7))
    weight = loss.world_model.embedding.layers[0].weight

    def unroll(change):
        with torch.no_grad():
            kept = weight.clone()
            weight.copy_(kept + change)
            value = loss(batch)["loss_unroll"].item()
            weight.copy_(kept)
        return value

    loss(batch)["loss_unroll"].backward()
    torch.manual_seed(1)
    direction = torch.randn_like(weight)
    slope = (unroll(1e-6 * direction) - unroll(-1e-6 * direction)) / 2e-6
    assert slope == pytest.approx((weight.grad * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("steps", [5, 8])
def test_too_many_steps(make_world_model, make_batch, steps):
    with pytest.raises(UsageError, match=rf"unroll_steps is {steps}, of sequences of 8: 4 steps have to come before"):
        make_loss(make_world_model, steps)(make_batch())
