"""TorchRL's own DreamerV3 losses over our imagined environment: they imagine, our world model answers.

The world model learns from random play, actor and critic by TorchRL's losses, and then the actor plays the real game.

    python examples/dreamer_in_imagination.py
"""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymWrapper, TransformedEnv
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ValueLoss, ValueEstimators
from walk import Walk

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor, make_symexp_critic
from torchrl_glam.objectives import GLAMModelLoss, total_loss

BATCH, LENGTH, STARTS = 32, 8, 128

torch.manual_seed(0)
env = GymWrapper(Walk())
env.set_seed(0)

# The world model learns from random play.
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

# Actor and critic learn in imagination.
imagined = GLAMImaginedEnv(world_model.eval(), env.action_spec, batch_size=STARTS, keep_memory=False)
actor = make_actor(world_model.state_size, 32, env.action_spec, hidden=64)
critic = make_symexp_critic(world_model.state_size, 32, hidden=64)
actor_loss = DreamerV3ActorLoss(
    actor,
    critic,
    imagined,
    continuation_model=imagined.make_continuation_model(),
    imagination_horizon=15,
    use_reinforce=True,  # as actions are discrete
)
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

# The actor plays the real game, its context in the tensordict.
policy = GLAMPolicy(world_model, actor, env.action_spec)
real = TransformedEnv(env, policy.make_tensordict_primer()).rollout(50, policy)["next", "reward"].mean()
print(f"in the game: {played['next', 'reward'].mean():.2f} by random play, {real:.2f} by the actor")
