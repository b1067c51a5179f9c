"""The parts of one training step, each callable by itself, built as ``examples/glam_atari.py`` builds them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig, Starts
from torchrl_glam.modules import GLAMPolicy

ENCODE = "encode frames"
WORLD_MODEL = "world-model update"
PREFILL = "context prefill"
IMAGINATION = "imagination, per step"
AGENT = "agent update"
ACTING = "acting"
EMULATOR = "emulator step"
SEQUENCES = "replay: sequences"
CONTEXTS = "replay: contexts"
WHOLE = "whole step"


@dataclass(frozen=True)
class Component:
    """A part of the step; ``run`` does it ``count`` times."""

    name: str
    run: Callable[[], object]
    count: int = 1


class Workload:
    """Everything that one training step needs, on records of random play.

    Args:
        config: the run's options.
        device: where the networks are.
    """

    def __init__(self, config: GLAMConfig, device: torch.device) -> None:
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it announces every storage it makes
        factory.set_seeds(config.seed)
        self.config, self.device = config, device
        self.env = factory.make_env(config)
        sizes = factory.observed_sizes(self.env)
        self.world_model = factory.make_world_model(config, self.env.action_spec, device, **sizes)
        self.actor = factory.make_actor(config, self.world_model, self.env.action_spec)
        self.policy = factory.make_policy(config, self.world_model, self.actor, self.env.action_spec)
        self.imagined_env = factory.make_imagined_env(config, self.world_model, self.env.action_spec)
        self.update_policy = factory.make_policy_update(config, self.imagined_env, self.actor)
        self.update_world_model = factory.make_world_model_update(config, self.world_model)
        self.sequences, self.contexts = factory.make_replay(config, self.env, device)
        # total_frames limits a run, not this: -1 has no end.
        self.collector = factory.make_collector(replace(config, total_frames=-1), self.env, self.policy)
        self.collected = iter(self.collector)
        for step in islice(self.collected, config.training.warmup_frames):
            self.sequences.extend(step)

    @property
    def starts_from_replay(self) -> bool:
        """True if rollouts start from contexts of their own, ``imagination.starts=replay``."""
        return self.config.imagination.starts is Starts.replay

    def whole_step(self) -> None:
        """Run one iteration of the loop of ``examples/glam_atari.py``, with both updates."""
        self.sequences.extend(next(self.collected))
        if self.starts_from_replay:
            self.contexts.draw()
        batch = self.sequences.sample().to(self.device, non_blocking=True)
        _, latents = self.update_world_model(batch)
        starts = self.contexts.sample() if self.starts_from_replay else latents
        self.update_policy(starts, self.config.imagination.horizon)

    def components(self) -> list[Component]:
        """Return the parts in the order of the step, with inputs drawn once; the last one is the whole step."""
        sequences = self.sequences.sample().to(self.device)
        contexts = self.contexts.sample()
        horizon = self.config.imagination.horizon
        encode = torch.no_grad()(lambda: self.world_model.encode_sequence(self.world_model.observation(sequences)))
        _, latents = self.update_world_model(sequences.copy())
        make_start = factory.make_start(self.config, self.imagined_env)
        given = contexts if self.starts_from_replay else latents
        with torch.no_grad():
            start = make_start(given)
            rollout = self.imagined_env.imagine(start, self.actor, horizon)
        update_agent = factory.make_policy_update(self.config, self.imagined_env, self.actor)
        update_agent.objective.start = lambda data: data
        update_agent.objective.env = _Replayed(rollout)  # type: ignore[assignment]
        imagine = torch.no_grad()(lambda: self.imagined_env.imagine(start, self.actor, horizon))
        return [
            Component(ENCODE, encode),
            Component(WORLD_MODEL, lambda: self.update_world_model(sequences.copy())),
            Component(PREFILL, torch.no_grad()(lambda: make_start(given))),
            Component(IMAGINATION, imagine, count=horizon),
            Component(AGENT, lambda: update_agent(latents, horizon)),
            Component(ACTING, self._make_acting()),
            Component(EMULATOR, _Emulator(factory.make_env(self.config))),
            Component(SEQUENCES, self.sequences.sample),
            Component(CONTEXTS, self.contexts.sample),
            Component(WHOLE, self.whole_step),
        ]

    def _make_acting(self) -> Callable[[], object]:
        """Return a call of the policy with a full context."""
        policy: GLAMPolicy = self.policy
        env = factory.make_env(self.config).append_transform(policy.make_tensordict_primer())
        seen = env.reset().to(self.device)
        seen["context", "length"].fill_(policy.context_length)
        return lambda: policy(seen.copy())


class _Replayed:
    """An imagined env that returns a recorded rollout, so that the policy update is only the agent's part."""

    def __init__(self, rollout: TensorDictBase) -> None:
        self.rollout = rollout

    def imagine(self, *args: object) -> TensorDictBase:
        """Return a copy of the rollout, which the losses may write to."""
        return self.rollout.copy()


class _Emulator:
    """Random play, a step per call."""

    def __init__(self, env: EnvBase) -> None:
        self.env, self.tensordict = env, env.reset()

    def __call__(self) -> None:
        _, self.tensordict = self.env.step_and_maybe_reset(self.env.rand_action(self.tensordict))
