# %% [markdown]
# # A world model on your own data
#
# You have recordings: observations, actions, rewards, ends of episodes. This page trains GLAM's world model on them
# and lets it imagine how a recording goes on. No environment is needed once the data are there.
#
# Sizes are small, so that the page runs in seconds on one core. A real game wants the sizes of [a
# preset](../quickstart.md#presets).
#
# ## The data
#
# Here a square moves over a field of 4x4 places, which stands for your recordings: 40 episodes of 25 steps. Replace
# this cell.

# %%
import torch
from tensordict import TensorDict

torch.manual_seed(0)
EPISODES, STEPS = 40, 25
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])  # right, left, down, up

actions = torch.randint(4, (EPISODES, STEPS))
pixels = torch.zeros(EPISODES, STEPS, 16, 16, 3, dtype=torch.uint8)
rewards = torch.zeros(EPISODES, STEPS, 1)
place = torch.randint(4, (EPISODES, 2))
for t in range(STEPS):
    for episode, (row, column) in enumerate(4 * place):
        pixels[episode, t, row : row + 4, column : column + 4] = 255
    place = (place + MOVES[actions[:, t]]).clamp(0, 3)
    rewards[:, t, 0] = (place[:, 1] == 3).float()  # one point at the right edge
ends = torch.zeros(EPISODES, STEPS, 1, dtype=torch.bool)
ends[:, -1] = True

# %% [markdown]
# ## The entries that the loss reads
#
# A `TensorDict` of shape `[b t]`: what was seen and what was done at each step, and under `next` what followed from
# it. Entries of other names will do too: `loss.set_keys(...)` says where they are.

# %%
data = TensorDict(
    {
        "pixels": pixels,  # uint8 [b t h w channels]
        "action": torch.nn.functional.one_hot(actions, 4),  # [b t a]
        "next": {"reward": rewards, "terminated": ends},  # [b t 1]
    },
    [EPISODES, STEPS],
)

# %% [markdown]
# ## Train
#
# Each batch is a set of windows of 16 steps. The loss returns named terms, and `total_loss` adds up those that count.

# %%
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel
from torchrl_glam.objectives import GLAMModelLoss, total_loss

world_model = GLAMWorldModel(
    4, GLAMDynamics(64), image_shape=(16, 16, 3), channels=(16, 32), num_categoricals=8, num_classes=8
)
loss = GLAMModelLoss(world_model)
loss.set_keys(termination="terminated")
optimizer = torch.optim.Adam(world_model.parameters(), lr=2e-3)

for update in range(201):
    first = int(torch.randint(STEPS - 15, ()))
    terms = loss(data[torch.randint(EPISODES, (16,)), first : first + 16])
    optimizer.zero_grad()
    total_loss(terms).backward()
    optimizer.step()
    if update % 50 == 0:
        print(f"update {update}: reconstruction {terms['loss_reconstruction']:.2f}, reward {terms['loss_reward']:.2f}")

# %% [markdown]
# ## Imagine
#
# After 8 real steps the world model goes on alone, under the actions that were really taken. `GLAMImaginedEnv` is a
# TorchRL environment, so that a policy is a module that writes `action`; this one reads them off the recording.

# %%
import matplotlib.pyplot as plt
from tensordict.nn import TensorDictModule
from torchrl.data import OneHot

from torchrl_glam.envs import GLAMImaginedEnv

world_model.eval()
CONTEXT, AHEAD = 8, 8
recorded = iter(data["action"][:4, CONTEXT : CONTEXT + AHEAD].unbind(1))
policy = TensorDictModule(lambda state: next(recorded), in_keys=["state"], out_keys=["action"])

imagined = GLAMImaginedEnv(world_model, OneHot(4), batch_size=4)
with torch.no_grad():
    start = imagined.start(data["pixels"][:4, :CONTEXT], data["action"][:4, :CONTEXT])
    rollout = imagined.imagine(start, policy, horizon=AHEAD)
    frames = world_model.decoder(rollout["state"]).movedim(-3, -1)  # [b t h w channels]
print(rollout)

# %% [markdown]
# Real frames above, imagined ones below.

# %%
figure, axes = plt.subplots(2, AHEAD, figsize=(AHEAD, 2.2))
for t in range(AHEAD):
    axes[0, t].imshow(data["pixels"][0, CONTEXT + t].numpy())
    axes[1, t].imshow(frames[0, t].clamp(0, 1).numpy())
for axis in axes.flat:
    axis.set_axis_off()

# %% [markdown]
# And the rewards: what the world model expects, beside what came.

# %%
expected, came = rollout["next", "reward"].mean(), rewards[:4, CONTEXT : CONTEXT + AHEAD].mean()
print(f"mean reward of an imagined step {expected:.2f}, of the real ones {came:.2f}")

# %% [markdown]
# Next: [an agent that learns in it](ppo_in_imagination.md). Data of a Gymnasium environment come to the same form by
# [a collector](../parts.md); vectors in place of pixels are read with `vector_size=n, image_shape=None`.
