"""Our world model and its imagined environment under a plain TorchRL PPO script.

Real steps go to TorchRL's replay buffer, the world model learns from its sequences, PPO learns in imagination alone.

    python examples/ppo_in_imagination.py
"""

from __future__ import annotations

import torch
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE
from walk import Walk

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor
from torchrl_glam.objectives import GLAMModelLoss, total_loss

BATCH, LENGTH, STARTS, CONTEXT, HORIZON = 16, 16, 128, 4, 8

torch.manual_seed(0)
env = GymWrapper(Walk())
env.set_seed(0)

# The world model, the same as an environment, and a policy that acts in the real one by the same actor.
world_model = GLAMWorldModel(2, GLAMDynamics(32), image_shape=(16, 16, 3), channels=(8, 16), num_categoricals=8).eval()
imagined = GLAMImaginedEnv(world_model, env.action_spec, batch_size=STARTS)
actor = make_actor(world_model.state_size, 32, env.action_spec, hidden=64)
policy = GLAMPolicy(world_model, actor, env.action_spec)
model_loss = GLAMModelLoss(world_model)
model_loss.set_keys(termination="terminated")

# PPO as anywhere.
critic = ValueOperator(MLP(world_model.state_size + 32, 1, num_cells=[64]), in_keys=["state", "belief"])
ppo_loss = ClipPPOLoss(actor, critic, entropy_coeff=1e-3)
advantage = GAE(gamma=0.9, lmbda=0.95, value_network=critic)

# Collect, learn the world, learn to act in it.
sampler = SliceSampler(slice_len=LENGTH, traj_key=("collector", "traj_ids"))
replay = TensorDictReplayBuffer(storage=LazyTensorStorage(1000), sampler=sampler)
optimizer = torch.optim.Adam([*model_loss.parameters(), *ppo_loss.parameters()], lr=1e-2)
for steps in Collector(env, policy, frames_per_batch=150, total_frames=450, auto_register_policy_transforms=True):
    replay.extend(steps)

    world_model.train()
    for _ in range(25):
        terms = model_loss(replay.sample(BATCH * LENGTH).reshape(BATCH, LENGTH))
        optimizer.zero_grad()
        total_loss(terms).backward()
        optimizer.step()
    world_model.eval()

    for _ in range(8):
        context = replay.sample(STARTS * LENGTH).reshape(STARTS, LENGTH)[:, :CONTEXT]
        with torch.no_grad():
            rollout = advantage(imagined.imagine(imagined.start(context["pixels"], context["action"]), actor, HORIZON))
        for minibatch in rollout.reshape(-1)[torch.randperm(STARTS * HORIZON)].split(256):
            terms = ppo_loss(minibatch)
            optimizer.zero_grad()
            total_loss(terms).backward()
            optimizer.step()

    real, dreamt = steps["next", "reward"].mean(), rollout["next", "reward"].mean()
    print(f"mean reward of a step: {real:.2f} in the game, then {dreamt:.2f} in imagination")
