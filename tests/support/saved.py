"""A run's folder without the run: untrained networks, the options, records of random play."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tensordict import TensorDictBase

from tests.support.configs import load
from tests.support.trained import CPU, SMALL
from torchrl_glam import factory
from torchrl_glam.runs.checkpoint import WEIGHTS, ReplayFiles, TrainedNetworks
from torchrl_glam.runs.folder import write_options


def save_run(folder: Path, *overrides: str, played: tuple[int, ...] = (150,), frame: int = 150) -> TensorDictBase:
    """Write the folder, and return what was played with all its keys, [t] of one environment, [num_envs t] of several.

    Args:
        folder: is made.
        overrides: options.
        played: records in each chunk of the replay, of all environments.
        frame: the step of the weights.
    """
    config = load(*SMALL, f"run_dir={folder}", *overrides)
    factory.set_seeds(0)
    env = factory.make_env(config)
    spec = env.action_spec_unbatched
    world_model = factory.make_world_model(config, spec, CPU, **factory.observed_sizes(env))
    actor = factory.make_actor(config, world_model, spec)
    objective = factory.make_objective(config, factory.make_imagined_env(config, world_model, spec), actor)
    folder.mkdir()
    write_options(folder, config)
    TrainedNetworks({"world_model": world_model, **objective.networks}, spec, frame).write(folder / WEIGHTS)
    replay, _ = factory.make_replay(config, env, CPU)
    files = ReplayFiles(replay, folder / "replay", "one")
    steps = env.rollout(sum(played) // config.env.num_envs, break_when_any_done=False)
    bounds = [0]
    for number in played:
        bounds.append(bounds[-1] + number // config.env.num_envs)
    for start, stop in pairwise(bounds):
        replay.extend(steps[..., start:stop])
        files.state_dict()
    return steps
