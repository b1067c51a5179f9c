"""Plan with TorchRL's own planners inside our imagined environment: no policy is trained.

    python examples/planning.py                                    # shows how: 100 updates make no good model
    python examples/planning.py --updates 3000 --planner mppi      # Pendulum, from pixels

Real random steps train a small world model. Then, at each real step, the planner looks for the actions that earn most in
imagination, from where the last real frames lead, and takes the first of them.
"""

from __future__ import annotations

import argparse

import torch
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import EnvBase, GymEnv
from torchrl.modules import CEMPlanner, MPPIPlanner
from torchrl.objectives.value import TDLambdaEstimator

from torchrl_glam.envs import GLAMImaginedEnv, adapt_env
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel
from torchrl_glam.modules.actor_critic import make_value
from torchrl_glam.objectives import GLAMModelLoss

CONTEXT = 8  # real frames that imagination starts from
SEARCH = {"planning_horizon": 12, "optim_steps": 4, "num_candidates": 64, "top_k": 8}


def learn_world_model(env: EnvBase, updates: int) -> GLAMWorldModel:
    """Train a small world model on random play, two frames per update."""
    world_model = GLAMWorldModel(
        env.action_spec.shape[-1], GLAMDynamics(64), channels=(8, 16, 32, 32), num_categoricals=8, num_classes=8
    )
    frames = max(400, 2 * updates)
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(frames),
        sampler=SliceSampler(slice_len=16, end_key=("next", "done")),
        batch_size=8 * 16,
    )
    for steps in Collector(env, frames_per_batch=200, total_frames=frames):
        buffer.extend(steps)
    loss = GLAMModelLoss(world_model)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    for _ in range(updates):
        terms = loss(buffer.sample().reshape(8, 16))
        optimizer.zero_grad()
        sum(value for key, value in terms.items() if key.startswith("loss_")).backward()
        optimizer.step()
    return world_model.eval()


@torch.no_grad()
def act(env: EnvBase, world_model: GLAMWorldModel, planner: str, steps: int) -> float:
    """Plan at each real step; return the mean reward."""
    imagined = GLAMImaginedEnv(world_model, env.action_spec)
    if planner == "cem":
        plan = CEMPlanner(imagined, **SEARCH)
    else:  # which wants returns: of the plan alone, as this value is 0 until somebody trains it
        value = make_value(world_model.state_size, world_model.dynamics.width)
        plan = MPPIPlanner(imagined, TDLambdaEstimator(gamma=0.99, lmbda=1.0, value_network=value), 1.0, **SEARCH)
    played, step = [], env.reset()
    for _ in range(CONTEXT + steps):
        if len(played) < CONTEXT:
            step = env.rand_action(step)
        else:
            recent = torch.stack(played[-CONTEXT:])
            start = imagined.start(recent["pixels"][None], recent["action"][None])[0]
            step["action"] = plan(start)["action"]
        record, step = env.step_and_maybe_reset(step)
        played.append(record.clone())
    return torch.stack(played[CONTEXT:])["next", "reward"].mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--planner", choices=["cem", "mppi"], default="cem")
    options = parser.parse_args()
    torch.manual_seed(0)
    env = adapt_env(GymEnv("Pendulum-v1", from_pixels=True))
    random_reward = env.rollout(200)["next", "reward"].mean().item()
    world_model = learn_world_model(env, options.updates)
    planned_reward = act(env, world_model, options.planner, options.steps)
    print(f"mean reward: random {random_reward:.2f}, planned by {options.planner} {planned_reward:.2f}")
