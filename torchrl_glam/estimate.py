"""How long a run will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from tensordict import TensorDict
from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig, Starts


def estimate_seconds(config: GLAMConfig, env: EnvBase, device: torch.device) -> float:
    """Time one of each update, not compiled, on throw-away networks and made-up frames, and extrapolate to the run.

    Leaves the random state and ``env``'s emulator as they were; ``env`` only supplies specs. Imagination is scaled to
    the run's mean horizon. Emulator and acting are not timed: 5 ms per step is what Pong took on a CPU.
    """
    config = replace(config, training=replace(config.training, compile=False))  # which takes longer than it would tell
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        world_model = factory.make_world_model(config, env.action_spec_unbatched, device)
        imagined = factory.make_imagined_env(config, world_model, env.action_spec_unbatched)
        update_world_model = factory.make_world_model_trainer(config, world_model)
        agent = factory.make_agent(config, world_model, env.action_spec_unbatched)
        update_policy = factory.make_policy_trainer(config, imagined, *agent)
        sequences = _made_up(config.replay.batch_size, config.replay.batch_length, env, device)
        starts = sequences  # once the world model's update has written its latents there
        if config.imagination.starts is Starts.replay:
            starts = _made_up(config.imagination.batch_size, config.imagination.context_length, env, device)
        frames = range(0, config.total_frames, 100)
        horizon = round(sum(map(config.imagination.horizon_at, frames)) / len(frames))
        world_model_seconds = _fastest(lambda: update_world_model(sequences), device)
        policy_seconds = _fastest(lambda: update_policy(starts, horizon), device)
    trained = config.total_frames - config.training.warmup_frames
    updates = world_model_seconds / config.training.world_model_every + policy_seconds / config.training.policy_every
    return config.total_frames * 0.005 + trained * updates


def _fastest(update: Callable[[], object], device: torch.device, enough: float = 1.0) -> float:
    """Seconds of the fastest of three calls; on a CPU of the first alone if it takes longer than ``enough``."""
    seconds: list[float] = []
    while len(seconds) < 3 and (device.type == "cuda" or not seconds or seconds[0] < enough):
        began = time.perf_counter()
        update()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _made_up(batch: int, time_steps: int, env: EnvBase, device: torch.device) -> TensorDict:
    shape = (batch, time_steps)
    pixels = env.observation_spec_unbatched["pixels"].rand(shape)
    reward = torch.zeros(batch, time_steps, 1)
    outcome = {"reward": reward, "life_loss": torch.zeros_like(reward, dtype=torch.bool)}
    data = {"pixels": pixels, "action": env.action_spec_unbatched.rand(shape), "next": outcome}
    return TensorDict(data, batch_size=shape).to(device)
