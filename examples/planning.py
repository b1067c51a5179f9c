"""Plan with TorchRL's own planners inside our imagined environment: no policy is trained.

    python examples/planning.py --planner mppi --updates 3000    # without options: cem, with a model of 80 updates

Random play trains a small world model. At each real step, the planner then looks for the actions that earn most in it.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import EnvBase, GymEnv
from torchrl.modules import CEMPlanner, MPPIPlanner
from torchrl.objectives.value import TDLambdaEstimator

from torchrl_glam.envs import GLAMImaginedEnv, adapt_env
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel, make_value
from torchrl_glam.objectives import GLAMModelLoss, total_loss

CONTEXT = 8  # real frames that imagination starts from
SEARCH = {"planning_horizon": 12, "optim_steps": 3, "num_candidates": 64, "top_k": 8}


def learn_world_model(world_model: GLAMWorldModel, play: TensorDictBase, updates: int) -> None:
    """Train on sequences of real steps ``play [t]``, and leave the world model ready to imagine."""
    sampler = SliceSampler(slice_len=16, end_key=("next", "done"))
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(len(play)), sampler=sampler, batch_size=8 * 16)
    buffer.extend(play)
    loss = GLAMModelLoss(world_model)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        total_loss(loss(buffer.sample().reshape(8, 16))).backward()
        optimizer.step()
    world_model.eval()


@torch.no_grad()
def act(env: EnvBase, world_model: GLAMWorldModel, planner: str, steps: int) -> TensorDictBase:
    """Plan at each of so many real steps, and return them."""
    imagined = GLAMImaginedEnv(world_model, env.action_spec, keep_memory=False)
    if planner == "cem":
        plan = CEMPlanner(imagined, **SEARCH)
    else:  # looks beyond its horizon through a value, which here nobody has trained: it is 0
        value = make_value(world_model.state_size, world_model.dynamics.width)
        returns = TDLambdaEstimator(gamma=0.99, lmbda=1.0, value_network=value)
        plan = MPPIPlanner(imagined, returns, temperature=0.1, **SEARCH)  # exp(0.1 * return) must stay above 0
    step, played = env.reset(), list[TensorDictBase]()
    for _ in range(CONTEXT + steps):
        if len(played) < CONTEXT:
            env.rand_action(step)
        else:
            recent = TensorDict.stack(played[-CONTEXT:])[None]
            step["action"] = plan(imagined.start(recent["pixels"], recent["action"])[0])["action"]
        record, step = env.step_and_maybe_reset(step)
        played.append(record)
    return TensorDict.stack(played[CONTEXT:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=80)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--planner", choices=["cem", "mppi"], default="cem")
    options = parser.parse_args()
    if find_spec("pygame") is None:
        parser.exit(2, "error: Gymnasium renders Pendulum with pygame, which is missing: pip install pygame\n")
    torch.manual_seed(0)
    env = adapt_env(GymEnv("Pendulum-v1", from_pixels=True), image_size=32)
    env.set_seed(0)
    world_model = GLAMWorldModel(1, GLAMDynamics(64), image_shape=(32, 32, 3), channels=(8, 16, 32), num_classes=8)
    play = env.rollout(max(100, 2 * options.updates), break_when_any_done=False)
    learn_world_model(world_model, play, options.updates)
    planned = act(env, world_model, options.planner, options.steps)
    rewards = [steps["next", "reward"].mean().item() for steps in (play, planned)]
    print(f"mean reward: random {rewards[0]:.2f}, {options.planner} {rewards[1]:.2f}")
