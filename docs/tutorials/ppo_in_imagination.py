# %% [markdown]
# # PPO in its imagination
#
# TorchRL's PPO, as anywhere, with one difference: the steps that it learns from are imagined. A world model learns
# the game from real play; the policy never sees the game while it learns.
#
# ## The game
#
# A light stands in one of four columns; the actions move it left and right. The further right, the more a step earns:
# random play earns about a half a step, the best play nearly 1. Put your own environment here.

# %%
import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torchrl.envs import GymWrapper

torch.manual_seed(0)


class Walk(gymnasium.Env):
    """Frames of 16x16 pixels, 50 steps an episode."""

    action_space, observation_space = Discrete(2), Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.column = 0, int(self.np_random.integers(4))
        return self.draw(), {}

    def step(self, action):
        self.steps, self.column = self.steps + 1, min(max(self.column + (-1, 1)[action], 0), 3)
        return self.draw(), self.column / 3, False, self.steps == 50, {}

    def draw(self):
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, 4 * self.column : 4 * self.column + 4] = 255
        return image


env = GymWrapper(Walk())
env.set_seed(0)

# %% [markdown]
# ## Learn the world
#
# 300 steps of random play, and the world model's loss on windows of 16 of them.

# %%
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel
from torchrl_glam.objectives import GLAMModelLoss, total_loss

played = torch.stack([env.rollout(50) for _ in range(6)])  # [b t]
world_model = GLAMWorldModel(2, GLAMDynamics(32), image_shape=(16, 16, 3), channels=(8, 16), num_categoricals=8)
model_loss = GLAMModelLoss(world_model)
model_loss.set_keys(termination="terminated")
model_optimizer = torch.optim.Adam(model_loss.parameters(), lr=1e-2)

for update in range(61):
    first = int(torch.randint(35, ()))
    terms = model_loss(played[torch.randint(6, (16,)), first : first + 16])
    model_optimizer.zero_grad()
    total_loss(terms).backward()
    model_optimizer.step()
    if update % 20 == 0:
        print(f"update {update}: reconstruction {terms['loss_reconstruction']:.1f}, reward {terms['loss_reward']:.2f}")

# %% [markdown]
# ## The same as an environment
#
# `imagined` is an ordinary TorchRL environment. Its observations are the latent `state` and the `belief`, in place of
# pixels.

# %%
from torchrl_glam.envs import GLAMImaginedEnv

world_model.eval()
imagined = GLAMImaginedEnv(world_model, env.action_spec, batch_size=128)
print(imagined.observation_spec.keys(), imagined.action_spec.shape)

# %% [markdown]
# ## PPO, as anywhere
#
# Actor, critic, advantage and loss know nothing of the world model; their inputs are `state` and `belief`.

# %%
from torchrl.modules import MLP, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.modules import make_actor

actor = make_actor(world_model.state_size, 32, env.action_spec, hidden=64)
critic = ValueOperator(MLP(world_model.state_size + 32, 1, num_cells=[64]), in_keys=["state", "belief"])
ppo_loss = ClipPPOLoss(actor, critic, entropy_coeff=1e-3)
advantage = GAE(gamma=0.9, lmbda=0.95, value_network=critic)
optimizer = torch.optim.Adam(ppo_loss.parameters(), lr=1e-2)

for iteration in range(12):
    first = int(torch.randint(46, ()))
    context = played[torch.randint(6, (128,)), first : first + 4]
    with torch.no_grad():
        rollout = advantage(imagined.imagine(imagined.start(context["pixels"], context["action"]), actor, horizon=8))
    for minibatch in rollout.reshape(-1)[torch.randperm(rollout.numel())].split(256):
        terms = ppo_loss(minibatch)
        optimizer.zero_grad()
        total_loss(terms).backward()
        optimizer.step()
    if iteration % 4 == 3:
        print(f"iteration {iteration + 1}: mean imagined reward {rollout['next', 'reward'].mean():.2f}")

# %% [markdown]
# ## Play for real
#
# `GLAMPolicy` carries the last real steps through the world model and lets the same actor act.

# %%
from torchrl.envs import TransformedEnv

from torchrl_glam.modules import GLAMPolicy

policy = GLAMPolicy(world_model, actor, env.action_spec)
real = TransformedEnv(env, policy.make_tensordict_primer())
with torch.no_grad():
    reward = torch.stack([real.rollout(50, policy)["next", "reward"] for _ in range(4)]).mean()
print(f"mean reward of a step in the game: {reward:.2f}, of random play {played['next', 'reward'].mean():.2f}")

# %% [markdown]
# Here the world model learns once. The script [ppo_in_imagination.py](../../examples/ppo_in_imagination.py) plays,
# learns and imagines in turns, as GLAM does; other parts that fit into your code: [Plug a part in](../parts.md).
