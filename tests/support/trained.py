"""A world model and an agent with every option as a user gives it, trained on records of random play."""

from __future__ import annotations

import copy

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from tests.support.configs import load
from torchrl_glam import factory
from torchrl_glam.config import Starts
from torchrl_glam.config.checks import check_config

CPU = torch.device("cpu")
GAME = "env.name=tests.support.games:CatchBall-v0"
SIZES = [
    "world_model.channels=[4,4,4,4]",
    "world_model.num_categoricals=8",
    "world_model.num_classes=8",
    "world_model.dynamics.width=16",
    "replay.batch_size=6",
    "replay.batch_length=12",
    "imagination.batch_size=8",
    "imagination.context_length=6",
    "imagination.horizon=4",
    "agent.hidden=16",
]
SMALL = ["preset=debug", GAME, *SIZES]
OBJECTIVES = ("glam", "a2c", "ppo", "reinforce", "dreamer_v3", "discrete_sac")


class Trained:
    """A world model, an agent and their updates, on records of random play; ``sizes`` come first.

    ``env`` and its ``rollout`` are made if they are not given.
    """

    def __init__(
        self,
        *overrides: str,
        sizes: list[str] = SMALL,
        device: torch.device = CPU,
        env: EnvBase | None = None,
        rollout: TensorDictBase | None = None,
    ) -> None:
        config = self.config = load(*sizes, *overrides)
        check_config(config)
        factory.set_seeds(0)
        env = env or factory.make_env(config)
        spec = env.action_spec_unbatched
        self.world_model = factory.make_world_model(config, spec, device, **factory.observed_sizes(env))
        self.imagined = factory.make_imagined_env(config, self.world_model, spec)
        self.actor = factory.make_actor(config, self.world_model, spec)
        self.update_policy = factory.make_policy_update(config, self.imagined, self.actor)
        self.critic = self.update_policy.objective.critic
        self.update_world_model = factory.make_world_model_update(config, self.world_model)
        self.sequences, self.contexts = factory.make_replay(config, env, device)
        if rollout is None:
            rollout = env.rollout(160 // config.env.num_envs, break_when_any_done=False)
        self.sequences.extend(rollout)

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state of the agent that a run would save."""
        return {name: copy.deepcopy(net.state_dict()) for name, net in self.update_policy.networks.items()}

    def update(self) -> TensorDict:
        """Update world model and agent once; return the agent's metrics."""
        _, latents = self.update_world_model(self.sequences.sample().to(self.imagined.device))
        from_replay = self.config.imagination.starts is Starts.replay
        return self.update_policy(self.contexts.sample() if from_replay else latents, self.config.imagination.horizon)
