"""Our world model and its imagined environment under a plain TorchRL PPO script.

Real steps go to TorchRL's replay buffer, the world model learns from its sequences, PPO learns in imagination alone.

    python examples/ppo_in_imagination.py
"""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymWrapper
from torchrl.modules import MLP, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor
from torchrl_glam.objectives import GLAMModelLoss, total_loss

BATCH, LENGTH, STARTS, CONTEXT, HORIZON = 16, 16, 128, 4, 8


class Walk(gymnasium.Env):
    """A light in one of four columns walks left or right; the further right it comes, the more a step earns."""

    action_space, observation_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.column = 0, int(self.np_random.integers(4))
        return self.draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps, self.column = self.steps + 1, min(max(self.column + (-1, 1)[action], 0), 3)
        return self.draw(), self.column / 3, False, self.steps == 50, {}

    def draw(self) -> np.ndarray:
        return np.where(np.arange(16)[:, None] // 4 == self.column, np.full((16, 16, 3), 255), 0).astype(np.uint8)


torch.manual_seed(0)
env = GymWrapper(Walk())
env.set_seed(0)
world_model = GLAMWorldModel(2, GLAMDynamics(32), image_shape=(16, 16, 3), channels=(8, 16), num_categoricals=8).eval()
imagined = GLAMImaginedEnv(world_model, env.action_spec, batch_size=STARTS)
actor = make_actor(world_model.state_size, 32, env.action_spec, hidden=64)
critic = ValueOperator(MLP(world_model.state_size + 32, 1, num_cells=[64]), in_keys=["state", "belief"])
policy = GLAMPolicy(world_model, actor, env.action_spec)
model_loss, ppo_loss = GLAMModelLoss(world_model), ClipPPOLoss(actor, critic, entropy_coeff=1e-3)
model_loss.set_keys(termination="terminated")
advantage = GAE(gamma=0.9, lmbda=0.95, value_network=critic)
sampler = SliceSampler(slice_len=LENGTH, traj_key=("collector", "traj_ids"))
replay = TensorDictReplayBuffer(storage=LazyTensorStorage(1000), sampler=sampler)
optimizer = torch.optim.Adam([*model_loss.parameters(), *ppo_loss.parameters()], lr=1e-2)
for steps in Collector(env, policy, frames_per_batch=200, total_frames=600, auto_register_policy_transforms=True):
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
