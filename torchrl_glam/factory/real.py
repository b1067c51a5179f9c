"""The real environment, and the data that comes from it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import EnvBase

from torchrl_glam.config import GLAMConfig
from torchrl_glam.data import OverlappedCollector, Prefetcher, ResumableCollector, record_bytes, ring_device
from torchrl_glam.data.replay import make_replay as make_replay_views
from torchrl_glam.envs import PROTOCOLS, make_atari_env
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMPolicy

EVALUATION_SEED = 1_000_000
"""Added to the run's: what is evaluated never begins as training does."""


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_env(config: GLAMConfig) -> EnvBase:
    """Make the real environment, on the CPU; batch size ``[env.num_envs]`` if that is more than 1."""
    options = config.env
    return make_atari_env(
        options.name,
        protocol=options.protocol.value,
        seed=config.seed,
        frame_skip=options.frame_skip,
        observation=options.observation.value,
        pixels_key=options.pixels_key,
        image_size=options.image_size,
        color=options.color.value,
        num_envs=options.num_envs,
    )


def make_evaluation_env(config: GLAMConfig) -> EnvBase:
    """Make a single environment with a seed of its own."""
    return make_env(replace(config, seed=config.seed + EVALUATION_SEED, env=replace(config.env, num_envs=1)))


def num_evaluation_episodes(config: GLAMConfig) -> int:
    """``evaluation.episodes``, or the protocol's number."""
    given = config.evaluation.episodes
    return PROTOCOLS[config.env.protocol.value].evaluation_episodes if given is None else given


def make_collector(config: GLAMConfig, env: EnvBase, policy: GLAMPolicy) -> ResumableCollector | OverlappedCollector:
    """One real step of each environment per iteration; uniform actions during the warm-up. It can be resumed.

    Raises:
        UsageError: if there are others than ``env.num_envs`` environments.
    """
    if (number := env.batch_size.numel()) != config.env.num_envs:
        raise UsageError(f"env.num_envs={config.env.num_envs}, but the environment given is {number}: make them agree")
    force = config.resume == "force"
    if config.training.overlap:
        return OverlappedCollector(
            env,
            policy,
            total_frames=config.total_frames,
            init_random_frames=config.training.warmup_frames,
            policy_device=next(policy.parameters()).device,
            new_episode_if_lost=force,
        )
    return ResumableCollector(
        env,
        policy,
        frames_per_batch=env.batch_size.numel(),
        total_frames=config.total_frames,
        init_random_frames=config.training.warmup_frames,
        policy_device=next(policy.parameters()).device,
        env_device="cpu",
        storing_device="cpu",
        auto_register_policy_transforms=True,
        new_episode_if_lost=force,
    )


def make_replay(config: GLAMConfig, env: EnvBase, device: torch.device) -> tuple[TensorDictReplayBuffer, Prefetcher]:
    """Make the replay's two views: sequences for the world model (and ``extend``), contexts for imagination.

    100 000 frames of 64x64 take 1.2 GB, of ``device`` if ``replay.device`` says so. Contexts come out on ``device``.
    """
    capacity = min(config.replay.capacity, config.total_frames)
    place = ring_device(config.replay.device.value, device, capacity * record_bytes(env))
    pinned = device.type == "cuda" and place.type == "cpu"
    sequences, contexts = make_replay_views(
        capacity,
        sequences=(config.replay.batch_size, config.replay.batch_length),
        contexts=(config.imagination.batch_size, config.imagination.context_length),
        newest=config.replay.newest,
        rewarded=config.replay.rewarded,
        num_envs=env.batch_size.numel(),
        device=place,
        pin_memory=pinned,
    )
    return sequences, Prefetcher(contexts, device, threaded=pinned)
