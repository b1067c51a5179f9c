"""Our losses on a replay buffer that somebody else filled: entries of other names, frames of another size.

The world model learns from the buffer's sequences, then the critic learns what the play in it is worth.

    python examples/losses_on_a_buffer.py
"""

from __future__ import annotations

import ale_py
import gymnasium
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer
from torchrl.envs import GymWrapper
from torchrl.objectives import SoftUpdate

from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel, make_critic
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss, total_loss

STEPS, BATCH, LENGTH, UPDATES = 600, 8, 16, 40

gymnasium.register_envs(ale_py)
torch.manual_seed(0)

# Somebody's buffer: random play of Pong in TorchRL's own storage, under names of their own.
game = gymnasium.wrappers.ResizeObservation(gymnasium.make("ALE/Pong-v5", obs_type="rgb"), (48, 64))
env = GymWrapper(game)
env.set_seed(0)
data = env.rollout(STEPS, break_when_any_done=False)
buffer = TensorDictReplayBuffer(
    storage=LazyTensorStorage(STEPS),
    sampler=SliceSampler(slice_len=LENGTH, end_key=("next", "over")),
    batch_size=BATCH * LENGTH,
)
outcome = {"points": data["next", "reward"], "over": data["next", "done"], "lost": data["next", "terminated"]}
buffer.extend(TensorDict({"camera": {"rgb": data["pixels"]}, "buttons": data["action"], "next": outcome}, [STEPS]))

# Ours: tell the loss where to look.
world_model = GLAMWorldModel(
    env.action_spec.shape[-1],
    GLAMDynamics(64),
    image_shape=(48, 64, 3),
    channels=(8, 16, 32, 32),
    num_categoricals=8,
    num_classes=8,
)
model_loss = GLAMModelLoss(world_model)
model_loss.set_keys(pixels=("camera", "rgb"), action="buttons", reward="points", termination="lost")
optimizer = torch.optim.Adam(model_loss.parameters(), lr=1e-3)
errors = []
for _ in range(UPDATES):
    terms = model_loss(buffer.sample().reshape(BATCH, LENGTH))
    optimizer.zero_grad()
    total_loss(terms).backward()
    optimizer.step()
    errors.append(terms["loss_reconstruction"].detach())
print(f"reconstruction error of a frame: {errors[0]:.0f} at first, {errors[-1]:.0f} after {UPDATES} updates")

# What is such play worth? The critic of [z_t, h_{t-1}] learns the lambda return of the recorded rewards.
world_model.eval()
critic = make_critic(world_model.state_size, world_model.dynamics.width, hidden=64)
critic_loss = GLAMCriticLoss(critic, gamma=0.9)
critic_loss.set_keys(reward="points", done="over", terminated="lost")
slow_critic = SoftUpdate(critic_loss, tau=0.05)
optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
for _ in range(2 * UPDATES):
    real = buffer.sample().reshape(BATCH, LENGTH)
    with torch.no_grad():
        seen = world_model(TensorDict({"pixels": real["camera", "rgb"], "action": real["buttons"]}, real.shape))
    now = TensorDict({"state": seen["state"][:, 1:-1], "belief": seen["belief"][:, :-2]}, [BATCH, LENGTH - 2])
    following = TensorDict({"state": seen["state"][:, 2:], "belief": seen["belief"][:, 1:-1]}, now.shape)
    now["next"] = following.update(real["next"][:, 1:-1])
    terms = critic_loss(now)
    optimizer.zero_grad()
    total_loss(terms).backward()
    optimizer.step()
    slow_critic.step()
value, fair = critic(now)["state_value"].mean(), data["next", "reward"].mean() / (1 - 0.9)
print(f"value of random play: {value:.2f} by the critic, {fair:.2f} by the mean reward of the buffer")
