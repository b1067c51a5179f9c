"""TorchRL's planners in the imagined environment, where the best plan is known."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded
from torchrl.modules import CEMPlanner, MPPIPlanner
from torchrl.objectives.value import TDLambdaEstimator

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import SequenceBackbone
from torchrl_glam.modules.actor_critic import make_value

GOAL = torch.tensor([0.5, -0.4])
STEPS = 8


class Integrator(SequenceBackbone):
    """Adds up the tokens, so that the belief is a place and the memory is needed to know it."""

    def __init__(self):
        super().__init__(2)
        self.weight = nn.Parameter(torch.zeros(()))  # a device

    def forward(self, tokens):
        beliefs = tokens.cumsum(1)
        return beliefs, self.initial_memory(len(tokens)).set("place", beliefs[:, -1])

    def step(self, token, memory):
        assert token.ndim == 2, "a backbone is promised [b d]"
        belief = memory["place"] + token
        return belief, memory.empty().set("place", belief)

    def initial_memory(self, batch_size):
        return TensorDict({"place": self.weight.new_zeros(batch_size, 2)}, [batch_size])


class TakeAction(nn.Module):
    """The token is a quarter of the action."""

    def forward(self, state, action):
        return action / 4


@pytest.fixture
def env(make_world_model):
    """A world in which an action is a move, and the reward of a place is closeness to the goal."""
    world_model = make_world_model(Integrator(), action_size=2)
    world_model.embedding = TakeAction()

    def closeness(belief):
        reward = 1 - (belief - GOAL).square().sum(-1, keepdim=True)
        never = torch.zeros_like(reward, dtype=torch.bool)
        return reward, never, never.clone()

    world_model.predict_outcome = closeness
    return GLAMImaginedEnv(world_model, Bounded(-1, 1, (2,)))


def make_planner(name, env):
    sizes = {"planning_horizon": 4, "optim_steps": 10, "num_candidates": 200, "top_k": 20}
    if name == "cem":
        return CEMPlanner(env, **sizes)
    value = make_value(env.observation_spec["state"].shape[-1], 2, hidden=8)
    returns = TDLambdaEstimator(gamma=0.99, lmbda=1.0, value_network=value)
    return MPPIPlanner(env, returns, temperature=20.0, **sizes)


@pytest.mark.parametrize("name", ["cem", "mppi"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_a_planner_finds_the_best_action(env, name, shape):
    """From a real context, in which the agent has come to a place of its own in each element."""
    torch.manual_seed(0)
    number = torch.Size(shape).numel()
    action = torch.rand(number, 5, 2) - 0.5
    with torch.no_grad():
        start = env.start(torch.zeros(number, 5, 8, 8, 3, dtype=torch.uint8), action).reshape(shape)
        planned = make_planner(name, env)(start)["action"]
    assert planned.shape == (*shape, 2)
    place = action.sum(1).reshape(*shape, 2) / 4
    best = (4 * (GOAL - place)).clamp(-1, 1)
    assert best.abs().amin() > 0.2
    torch.testing.assert_close(planned, best, rtol=0, atol=0.2)


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_a_planner_acts_in_the_world_that_it_plans_in(env, name):
    torch.manual_seed(0)
    with torch.no_grad():
        rollout = env.rollout(STEPS, make_planner(name, env), break_when_any_done=False)
        idle = env.rollout(STEPS, break_when_any_done=False)
    assert rollout.shape == (STEPS,)
    assert rollout["next", "reward"][3:].min() > 0.98
    assert idle["next", "reward"][3:].min() < 0.9
