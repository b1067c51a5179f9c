# %% [markdown]
# # Asking MambaDM for a return
#
# MambaDM learns from recorded episodes which action led to which return, and acts by asking for one. This page
# records play of every quality, trains a small MambaDM on it, asks it for low and for high returns, and looks at what
# it achieves.
#
# ## A task, and recordings of it
#
# An episode has 20 steps. An action is a number between 0 and 1, and earns itself. Some of the recorded players do
# much at each step, some little, so that the recordings hold returns between 0 and 20.

# %%
import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from tensordict import TensorDict
from torchrl.data import Bounded

torch.manual_seed(0)
EPISODES, STEPS = 200, 20


class Effort(gymnasium.Env):
    """Observes the share of the episode that is over."""

    observation_space, action_space = Box(0, 1, (1,), np.float32), Box(0, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        seen = np.full(1, self.time / STEPS, np.float32)
        return seen, float(action[0]), self.time == STEPS, False, {}


actions = (torch.rand(EPISODES, 1, 1) + 0.2 * torch.randn(EPISODES, STEPS, 1)).clamp(0, 1)  # [e t 1]
to_go = actions.flip(1).cumsum(1).flip(1)  # what was still to come, this step's reward included

# %% [markdown]
# ## As a dataset
#
# `load_dataset` makes this of any [Minari](https://minari.farama.org) dataset. Of recordings of your own it is made
# by hand: all steps one after the other, the last one of each episode marked.

# %%
from torchrl_glam.offline import OfflineDataset

time = torch.arange(STEPS).expand(EPISODES, STEPS).unsqueeze(-1)
steps = {
    "observation": time / STEPS,
    "action": actions,
    "return_to_go": to_go,
    "time_step": time,
    "episode": torch.arange(EPISODES).unsqueeze(1).expand(EPISODES, STEPS),
    "next": {"reward": actions, "done": time == STEPS - 1},
}
records = TensorDict(steps, [EPISODES, STEPS]).reshape(-1).contiguous()
dataset = OfflineDataset("effort/mixed-v0", None, records, torch.Size([1]), Bounded(0, 1, (1,)), random_score=10.0)
returns = dataset.episode_returns()
least, mean, most = returns.min(), returns.mean(), returns.max()
print(f"{dataset.num_episodes} episodes, returns from {least:.1f} to {most:.1f}, mean {mean:.1f}")

# %% [markdown]
# ## Train
#
# The actor has the call of TorchRL's `DTActor`, so TorchRL's `DTLoss` trains it. A window is 10 consecutive steps.

# %%
from torchrl.objectives import DTLoss

from torchrl_glam.offline import MambaDMActor, draw_windows, make_decision_actor, make_windows

network = MambaDMActor((1,), 1, width=32, num_layers=1, context=10, dropout=0.0)
network.set_statistics(*dataset.observation_statistics(), dataset.return_scale)
actor = make_decision_actor(network, dataset.action_spec)
loss = DTLoss(actor)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)

windows = make_windows(dataset, batch_size=64, context=10)
for update, window in enumerate(draw_windows(windows, 201)):
    error = loss(window)["loss"]
    optimizer.zero_grad()
    error.backward()
    optimizer.step()
    if update % 50 == 0:
        print(f"update {update}: squared error of the action {error:.4f}")

# %% [markdown]
# ## Ask
#
# `DecisionPolicy` acts by what is still to come of the return that it is asked for. Its memory is `carried` from step
# to step, at a cost that does not grow; `window` reads the last steps again each time.

# %%
from torchrl.envs import GymWrapper

from torchrl_glam.offline import DecisionPolicy
from torchrl_glam.offline.evaluation import play_targets

policy = DecisionPolicy(make_decision_actor(network.eval(), dataset.action_spec), memory="carried")
targets = [4.0, 8.0, 12.0, 16.0]
achieved = [play_targets(lambda: GymWrapper(Effort()), policy, target, episodes=2)[0] for target in targets]
for target, value in zip(targets, achieved, strict=True):
    print(f"asked for {target:.0f}, achieved {value:.1f}")

# %% [markdown]
# The line is what was asked for.

# %%
import matplotlib.pyplot as plt

plt.figure(figsize=(4, 3))
plt.plot(targets, targets, "k--", linewidth=1)
plt.plot(targets, achieved, "o")
plt.xlabel("return asked for")
plt.ylabel("return achieved")

# %% [markdown]
# Next: the same with a teacher, a dataset on the disk and a run that resumes: [Offline decisions](../offline.md).
