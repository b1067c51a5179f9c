"""TorchRL's own DreamerV3 losses over our imagined environment: they imagine, our world model answers.

The world model learns from random play, actor and critic by TorchRL's losses, and then the actor plays the real game.

    python examples/dreamer_in_imagination.py
"""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymWrapper, TransformedEnv
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ValueLoss, ValueEstimators

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor
from torchrl_glam.modules.actor_critic import make_symexp_critic
from torchrl_glam.objectives import GLAMModelLoss, total_loss

BATCH, LENGTH, STARTS = 32, 8, 128


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
replay = TensorDictReplayBuffer(storage=LazyTensorStorage(600), sampler=SliceSampler(slice_len=LENGTH))
replay.extend(played := env.rollout(600, break_when_any_done=False))
world_model = GLAMWorldModel(2, GLAMDynamics(32), image_shape=(16, 16, 3), channels=(8, 16), num_categoricals=8)
model_loss = GLAMModelLoss(world_model)
model_loss.set_keys(termination="terminated")
optimizer = torch.optim.Adam(model_loss.parameters(), lr=1e-2)
for _ in range(50):
    optimizer.zero_grad()
    total_loss(model_loss(replay.sample(BATCH * LENGTH).reshape(BATCH, LENGTH))).backward()
    optimizer.step()
imagined = GLAMImaginedEnv(world_model.eval(), env.action_spec, batch_size=STARTS, keep_memory=False)
actor = make_actor(world_model.state_size, 32, env.action_spec, hidden=64)
critic = make_symexp_critic(world_model.state_size, 32, hidden=64)
continuation = imagined.make_continuation_model()
actor_loss = DreamerV3ActorLoss(actor, critic, imagined, continuation_model=continuation, use_reinforce=True)
actor_loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.9, lmbda=0.95)
actor_loss.set_keys(state="start", belief="start")  # where our environment starts from, backbone's memory included
value_loss = DreamerV3ValueLoss(critic, value_loss="two_hot", actor_loss=actor_loss)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-2)
rewards = []
for _ in range(30):
    context = replay.sample(STARTS * LENGTH).reshape(STARTS, LENGTH)
    start = imagined.start(context["pixels"], context["action"])
    actor_terms, rollout = actor_loss(TensorDict({"start": start}, [STARTS]))
    value_terms, _ = value_loss(rollout)
    optimizer.zero_grad()
    (actor_terms["loss_actor"] + value_terms["loss_value"]).backward()
    optimizer.step()
    rewards.append(rollout["next", "reward"].mean())
print(f"mean reward of a step in imagination: {rewards[0]:.2f} at first, {rewards[-1]:.2f} at last")

policy = GLAMPolicy(world_model, actor, env.action_spec)
real = TransformedEnv(env, policy.make_tensordict_primer()).rollout(50, policy)["next", "reward"].mean()
print(f"in the game: {played['next', 'reward'].mean():.2f} by random play, {real:.2f} by the actor")
