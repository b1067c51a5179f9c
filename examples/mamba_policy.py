"""Mamba as the memory of an ordinary TorchRL policy, in the place of its LSTM: PPO on CartPole without velocities.

While acting, the memory goes step by step; its state travels in the tensordict and is empty after a reset. Inside a
loss, where TorchRL sets the recurrent mode, it runs over whole batches with their resets, to the same effect.

    python examples/mamba_policy.py memory=mamba seed=0 batches=60 rate=3e-3
    python examples/mamba_policy.py memory=lstm out=lstm.csv  # frame, return of each episode
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, RewardSum, SerialEnv, TransformedEnv
from torchrl.modules import ActorValueOperator, LSTMModule, OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.modules import set_recurrent_mode as recurrent
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.modules import MambaModule

ENVS, STEPS, EPOCHS, WIDTH = 8, 128, 10, 64
options = {"memory": "mamba", "seed": "0", "batches": "60", "rate": "3e-3", "out": ""}
options.update(word.partition("=")[::2] for word in sys.argv[1:])
torch.manual_seed(int(options["seed"]))
env = TransformedEnv(SerialEnv(ENVS, lambda: GymEnv("CartPole-v1")), RewardSum())
env.set_seed(int(options["seed"]))

# The two memories are called alike.
Memory = {"mamba": MambaModule, "lstm": LSTMModule}[options["memory"]]
memory = Memory(input_size=2, hidden_size=WIDTH, in_key="positions", out_key="features")
positions = TensorDictModule(lambda observed: observed[..., [0, 2]], ["observation"], ["positions"])
logits = TensorDictModule(nn.Linear(WIDTH, 2), ["features"], ["logits"])
distribution = {"distribution_class": OneHotCategorical, "return_log_prob": True}
agent = ActorValueOperator(
    TensorDictSequential(positions, memory),
    ProbabilisticActor(logits, ["logits"], spec=env.action_spec_unbatched, **distribution),
    ValueOperator(nn.Linear(WIDTH, 1), ["features"]),
)
actor, critic = agent.get_policy_operator(), agent.get_value_operator()
advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic, shifted=True)
loss = ClipPPOLoss(actor, critic, critic_coeff=0.5)
optimizer = torch.optim.Adam(loss.parameters(), lr=float(options["rate"]))

episodes, differences, seconds = [], [], []
frames = {"frames_per_batch": ENVS * STEPS, "total_frames": ENVS * STEPS * int(options["batches"])}
for batch, steps in enumerate(Collector(env, actor, **frames, auto_register_policy_transforms=True), start=1):
    with torch.no_grad(), recurrent(True):
        at_once = actor.get_dist(steps.copy()).log_prob(steps["action"])  # by the same weights, in the collector
        differences.append((at_once - steps["action_log_prob"]).abs().max().item())
        advantage(steps)
    for _ in range(EPOCHS):
        start = time.process_time()
        terms = loss(steps)
        optimizer.zero_grad()
        sum(term for name, term in terms.items() if name.startswith("loss_")).backward()
        nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
        optimizer.step()
        seconds.append(time.process_time() - start)
    finished = steps["next", "episode_reward"][steps["next", "done"]].tolist()
    episodes += [(batch * ENVS * STEPS, episode_return) for episode_return in finished]
    if batch % 10 == 0:
        mean = statistics.mean(value for _, value in episodes[-50:])
        print(f"{batch * ENVS * STEPS:7} steps: mean return of the last 50 episodes {mean:.0f}")
if options["out"]:
    Path(options["out"]).write_text("".join(f"{frame},{value}\n" for frame, value in episodes))
print(f"log-probabilities step by step and at once differ by {max(differences):.1e} at most")
print(f"median processor time of an update, {ENVS} rows of {STEPS} steps: {1000 * statistics.median(seconds):.0f} ms")
