"""A trained run, or an export of one, as objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tensordict.nn import TensorDictModule
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor
from yaml import YAMLError

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig, RunConfig
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import DamagedError, UsageError, first_line
from torchrl_glam.modules import GLAMPolicy, GLAMWorldModel
from torchrl_glam.runs.checkpoint import Weights, load_networks
from torchrl_glam.runs.checkpoint.checkpoints import find_weights
from torchrl_glam.runs.folder import CONFIG, this_version, written_by

Config = TypeVar("Config", bound=RunConfig)


@dataclass
class LoadedRun:
    """The networks of a run, in eval mode, and its options.

    Args:
        folder: where they were read.
        config: the run's options.
        frame: real steps that they were trained on.
        action_spec: the environment's, without batch dimensions.
        world_model, actor, policy: the networks; ``policy`` acts in the real environment.
        critic: ``None`` where the objective keeps its critics within its loss (``discrete_sac``).
    """

    folder: Path
    config: GLAMConfig
    frame: int
    action_spec: TensorSpec
    world_model: GLAMWorldModel
    actor: ProbabilisticActor
    critic: TensorDictModule | None
    policy: GLAMPolicy

    def make_imagined_env(self, batch_size: int | None = None) -> GLAMImaginedEnv:
        """Return the world model as an environment of ``batch_size``, or of any, with the run's kind of memory."""
        env = factory.make_imagined_env(self.config, self.world_model, self.action_spec)
        return GLAMImaginedEnv(
            self.world_model, self.action_spec, batch_size=batch_size, dynamics=env.transition.dynamics
        )


def load_run(folder: str | Path, *, weights: str = "newest", device: torch.device | str = "cpu") -> LoadedRun:
    """Load the networks of a run, finished or not, or of an export (:mod:`torchrl_glam.runs.export`).

    Args:
        folder: holds ``config.yaml`` and ``weights.safetensors`` or ``checkpoints``.
        weights: ``newest`` or ``best``, the checkpoint with the highest return in training.
        device: where the networks go.

    Raises:
        UsageError: if the folder holds no run, no weights, or damaged ones.
    """
    folder = Path(folder)
    config = read_config(folder)
    try:
        return _build(folder, config, find_weights(folder, weights), torch.device(device))
    except DamagedError as error:
        raise UsageError(f"{folder}: {error}; give another run_dir, or weights=newest|best") from error


def read_config(folder: Path) -> GLAMConfig:
    """Read the options of the run of GLAM in ``folder``; errors as of :func:`read_options`."""
    return read_options(folder, GLAMConfig, "examples/glam_atari.py")


def read_options(folder: Path, schema: type[Config], command: str) -> Config:
    """Read the options of the run in ``folder``.

    Args:
        folder: the run's.
        schema: the options' dataclass.
        command: the one that makes such runs.

    Raises:
        UsageError: if there are none, or not in the form of this version.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} holds no run: give a folder with config.yaml, as {command} makes them")
    try:
        loaded: Any = OmegaConf.load(path)
        options: Any = OmegaConf.merge(OmegaConf.structured(schema.schema_for(loaded)), loaded)
        return OmegaConf.to_object(options)  # type: ignore[return-value]
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException, UsageError) as error:
        raise UsageError(
            f"{path} cannot be read ({first_line(error)}): {written_by(folder)} wrote it, this is {this_version()}; "
            f"read it with that version, or give a run of {command}"
        ) from error


def _build(folder: Path, config: GLAMConfig, weights: Weights, device: torch.device) -> LoadedRun:
    world_model = factory.make_world_model(config, weights.action_spec, device)
    actor = factory.make_actor(config, world_model, weights.action_spec)
    objective = factory.make_objective(
        config, factory.make_imagined_env(config, world_model, weights.action_spec), actor
    )
    critic = {} if objective.critic is None else {"critic": objective.critic}
    load_networks({"world_model": world_model, "actor": actor, **critic}, weights)
    return LoadedRun(
        folder=folder,
        config=config,
        frame=weights.frame,
        action_spec=weights.action_spec,
        world_model=world_model,
        actor=actor,
        critic=objective.critic,
        policy=factory.make_policy(config, world_model, actor, weights.action_spec),
    )
