"""Small updates that several tests share, and how close two numbers are."""

from __future__ import annotations

import copy

import torch
from torchrl.data import OneHot

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import make_actor, make_critic
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training import AgentConfig, GLAMObjective, PolicyUpdate, WorldModelUpdate


def assert_close_in_norm(left, right, tolerance, name):
    """The greatest difference is at most so large a part of the greatest value."""
    assert left.shape == right.shape, name
    error = (left.double() - right.double()).abs().max() / right.double().abs().max().clamp_min(1e-12)
    assert error <= tolerance, f"{name} differs by {error:.1e} of its greatest value; at most {tolerance:.0e} is right."


def make_model_update(world_model, **options):
    """The world model's loss and its update by SGD: Adam would turn the rounding of a tiny gradient into a step."""
    loss = GLAMModelLoss(world_model, free_nats=0.0, variation_free_nats=0.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1e-2)
    return loss, WorldModelUpdate(loss, optimizer, 1000.0, **options)


def make_agent(world_model, shake):
    """An actor and a critic in which every parameter matters, on the world model's device."""
    sizes, device = (world_model.state_size, world_model.dynamics.width), next(world_model.parameters()).device
    actor = make_actor(*sizes, OneHot(3, device=device), hidden=8)
    return shake(actor, 0.5).to(device), shake(make_critic(*sizes, hidden=8), 0.1).to(device)


def make_agent_update(world_model, actor, critic, compile=False, **options):
    """An imagined environment, actor loss, critic loss, and the agent's update, by SGD."""
    env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=4)
    objective = make_glam_objective(env, actor, critic, entropy_coeff=1e-2, compile=compile)
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=1e-2)
    actor_loss, critic_loss = objective.losses
    return env, actor_loss, critic_loss, PolicyUpdate(objective, optimizer, 100.0, **options)


def make_glam_objective(env, actor, critic, compile=False, **agent):
    """GLAM's objective over that critic, from contexts; ``agent`` are options of an agent."""

    class GivenCritic(GLAMObjective):
        def make_critic(self, make, **options):
            return critic

    def start(contexts):
        return env.start(contexts["pixels"], contexts["action"])

    return GivenCritic(env, actor, AgentConfig(**agent), start, compile=compile)


def twice(*modules):
    """Two sets of copies, for two ways to the same numbers."""
    return copy.deepcopy(modules), copy.deepcopy(modules)
