"""A Mamba block as the memory of an ordinary TorchRL policy: PPO on CartPole without velocities.

While acting, the block goes step by step; its memory travels in the tensordict and is empty after a reset. Inside a
loss, where TorchRL sets the recurrent mode, it runs over whole episodes at once, to the same effect.

    python examples/mamba_policy.py
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.collectors import Collector
from torchrl.collectors.utils import split_trajectories
from torchrl.envs import GymEnv, SerialEnv, TensorDictPrimer
from torchrl.envs.utils import make_composite_from_td
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator, recurrent_mode, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.modules import MambaBlock

ENVS, STEPS, BATCHES, EPOCHS, WIDTH = 8, 128, 8, 10, 32


class MambaNetwork(TensorDictModuleBase):
    """``observation`` to ``logits``, the velocities in it left out."""

    def __init__(self) -> None:
        super().__init__()
        self.in_keys, self.out_keys = ["observation", "memory"], ["logits", ("next", "memory")]
        self.embedding, self.output = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 2)
        self.block = MambaBlock(WIDTH, d_state=8)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """Make the transform that adds an empty memory to the environment's reset."""
        memory = make_composite_from_td(self.block.initial_memory(1)[0])
        return TensorDictPrimer(memory=memory, default_value=0.0, expand_specs=True)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """One step ``[b]``, or in TorchRL's recurrent mode whole episodes ``[b t]``."""
        tokens = self.embedding(tensordict["observation"][..., [0, 2]])
        if recurrent_mode():
            features, _ = self.block(tokens)
        else:
            features, tensordict["next", "memory"] = self.block.step(tokens, tensordict["memory"])
        return tensordict.set("logits", self.output(tokens + features))


torch.manual_seed(0)
env = SerialEnv(ENVS, lambda: GymEnv("CartPole-v1"))
env.set_seed(0)
distribution = {"distribution_class": OneHotCategorical, "return_log_prob": True}
actor = ProbabilisticActor(MambaNetwork(), ["logits"], spec=env.action_spec_unbatched, **distribution)
critic = ValueOperator(nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1)), in_keys=["observation"])
advantage, loss = GAE(gamma=0.99, lmbda=0.95, value_network=critic), ClipPPOLoss(actor, critic)
optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)

frames = {"frames_per_batch": ENVS * STEPS, "total_frames": ENVS * STEPS * BATCHES}
whole = {"reset_at_each_iter": True, "set_truncated": True}  # every sequence begins with a reset
lengths, differences = [], []
for steps in Collector(env, actor, **frames, **whole, auto_register_policy_transforms=True):
    episodes = split_trajectories(steps)
    real = episodes["collector", "mask"]  # [episode, step]
    with torch.no_grad(), set_recurrent_mode(True):
        advantage(episodes)
        at_once = actor[0](episodes.select("observation"))["logits"]
    differences.append((at_once - episodes["logits"])[real].abs().max())  # by the same weights, in the collector
    lengths.append(real.sum() / len(real))
    for _ in range(EPOCHS):
        terms = loss(episodes)
        optimizer.zero_grad()
        sum(term for name, term in terms.items() if name.startswith("loss_")).backward()
        optimizer.step()
print(f"logits step by step and at once differ by {max(differences):.1e} at most")
print(f"mean length of an episode: {lengths[0]:.0f} steps at first, {lengths[-1]:.0f} at last")
