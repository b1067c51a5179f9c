"""A Mamba block as the memory of an ordinary TorchRL policy: CartPole without velocities, PPO.

While acting, the block goes step by step and its memory travels in the tensordict; a reset of the environment clears
it. Inside a loss, where TorchRL sets the recurrent mode, it runs over whole episodes at once.

    python examples/mamba_policy.py
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Composite

from torchrl.envs import Compose, GymEnv, InitTracker, RewardSum, SerialEnv, TensorDictPrimer, TransformedEnv
from torchrl.envs.utils import make_composite_from_td
from torchrl.modules import ProbabilisticActor, ValueOperator, recurrent_mode, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.modules import MambaBlock

ENVS, STEPS, BATCHES, EPOCHS, WIDTH = 16, 96, 12, 6, 32


class MambaMemory(TensorDictModuleBase):
    """``observation`` to ``features``, the velocities in it left out."""

    def __init__(self) -> None:
        super().__init__()
        self.in_keys, self.out_keys = ["observation", "memory"], ["features", ("next", "memory")]
        self.embedding = nn.Linear(2, WIDTH)
        self.block = MambaBlock(WIDTH, d_state=8)

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """What the collector adds to the environment: an empty memory at each reset."""
        memory = make_composite_from_td(self.block.initial_memory(1)[0])
        return TensorDictPrimer(Composite(memory=memory), default_value=0.0, expand_specs=True)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """One step ``[b]``, or in TorchRL's recurrent mode whole episodes ``[b t]``."""
        tokens = self.embedding(tensordict["observation"][..., [0, 2]])
        if recurrent_mode():
            features, _ = self.block(tokens)
        else:
            features, tensordict["next", "memory"] = self.block.step(tokens, tensordict["memory"])
        return tensordict.set("features", tokens + features)


torch.manual_seed(0)
env = TransformedEnv(SerialEnv(ENVS, lambda: GymEnv("CartPole-v1")), Compose(InitTracker(), RewardSum()))
env.set_seed(0)
logits = TensorDictModule(nn.Linear(WIDTH, 2), in_keys=["features"], out_keys=["logits"])
actor = ProbabilisticActor(
    TensorDictSequential(MambaMemory(), logits),
    in_keys=["logits"],
    spec=env.full_action_spec_unbatched["action"],
    distribution_class=torch.distributions.OneHotCategorical,
    return_log_prob=True,
)
critic = ValueOperator(nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1)), in_keys=["observation"])
advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
collector = Collector(
    env,
    actor,
    frames_per_batch=ENVS * STEPS,
    total_frames=ENVS * STEPS * BATCHES,
    reset_at_each_iter=True,
    split_trajs=True,
    set_truncated=True,
    auto_register_policy_transforms=True,
)
for episodes in collector:
    real = episodes["collector", "mask"]
    with torch.no_grad(), set_recurrent_mode(True):
        at_once = actor.get_dist(episodes.select("observation")).logits
        advantage(episodes)
    difference = (at_once.log_softmax(-1) - episodes["logits"].log_softmax(-1))[real].abs().max()
    for _ in range(EPOCHS):
        terms = loss(episodes)
        optimizer.zero_grad()
        (terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]).backward()
        optimizer.step()
    length = real.sum() / len(real)
    print(len(real), length, difference)
