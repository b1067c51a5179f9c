"""A trained run, or an export of one, as objects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import get_method
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tensordict.nn import TensorDictModule
from torchrl.data import TensorSpec
from torchrl.modules import ProbabilisticActor

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig, RunConfig
from torchrl_glam.config.checks import check_config
from torchrl_glam.config.trust import check_trust, option_imports
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import DamagedError, UsageError, describe_error
from torchrl_glam.factory.networks import is_own
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.modules import GLAMPolicy, GLAMWorldModel
from torchrl_glam.runs.checkpoint import Weights, load_networks
from torchrl_glam.runs.checkpoint.checkpoints import find_weights
from torchrl_glam.runs.checkpoint.weights_file import check_shapes
from torchrl_glam.runs.contents import CONFIG, check_links
from torchrl_glam.runs.folder import this_version, written_by
from torchrl_glam.runs.foreign import read_yaml

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


def load_run(
    folder: str | Path, *, weights: str = "newest", device: torch.device | str = "cpu", trust: bool = False
) -> LoadedRun:
    """Load the networks of a run, finished or not, or of an export (:mod:`torchrl_glam.runs.export`).

    The folder is taken for data that anybody may have written: nothing in it runs code, unless ``trust`` says so.

    Args:
        folder: holds ``config.yaml`` and ``weights.safetensors`` or ``checkpoints``.
        weights: ``newest`` or ``best``, the checkpoint with the highest return in training.
        device: where the networks go.
        trust: import what the options name, classes and environments that are not of this package, TorchRL, Gymnasium
            or ale-py; it runs the code of whoever wrote them.

    Raises:
        UsageError: if the folder holds no run, no weights, or damaged ones, or its options would import something.
    """
    folder = Path(folder)
    config = read_config(folder, trust=trust)
    try:
        found = find_weights(folder, weights)
        _check_sizes(config, found)
        return _build(folder, config, found, torch.device(device))
    except DamagedError as error:
        raise UsageError(f"{folder}: {error}; give another run_dir, or weights=newest|best") from error
    except UsageError:
        raise
    except (ArithmeticError, AssertionError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{folder} cannot be loaded ({describe_error(error)}): give another run_dir") from error


def read_config(folder: Path, *, trust: bool = False) -> GLAMConfig:
    """Read the options of the run of GLAM in ``folder``; ``trust`` and errors as of :func:`read_options`."""
    return read_options(folder, GLAMConfig, other_command("train"), check_config, trust=trust)


def read_options(
    folder: Path,
    schema: type[Config],
    command: str,
    check: Callable[[Config], object],
    *,
    trust: bool = False,
) -> Config:
    """Read the options of the run in ``folder``, which anybody may have written.

    Args:
        folder: the run's.
        schema: the options' dataclass.
        command: the one that makes such runs.
        check: raises a UsageError for values out of range, as the command line does.
        trust: import the classes and environments that they name.

    Raises:
        UsageError: if there are none, not in the form of this version, out of range, or with import paths beyond those
            of :mod:`torchrl_glam.config.trust`; if a file or folder of the run is a link.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{folder} holds no run: give a folder with config.yaml, as {command} makes them")
    check_links(folder)  # what is made of the run is written beside it
    with _readable(folder, command):
        plain = read_yaml(path)
    check_trust(str(path), option_imports(plain), trust)
    with _readable(folder, command):
        return _make_options(OmegaConf.create(plain), schema, check)


@contextlib.contextmanager
def _readable(folder: Path, command: str) -> Iterator[None]:
    """Turn what is wrong with the options in ``folder`` into one line that says which version wrote them."""
    try:
        yield
    except (OmegaConfBaseException, OverflowError, TypeError, ValueError) as error:  # a UsageError is a ValueError
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise UsageError(
            f"{folder / CONFIG} cannot be read ({reason}): {written_by(folder)} wrote it, this is "
            f"{this_version()}; read it with that version, or give a run of {command}"
        ) from error


def _make_options(loaded: Any, schema: type[Config], check: Callable[[Config], object]) -> Config:
    """Make the dataclass of options that were read, and check them as those of a command line."""
    node = OmegaConf.structured(schema.schema_for(loaded))
    fixed = {place: OmegaConf.select(node, f"{place}._target_") for place in ("world_model", "model_loss")}
    options: Any = OmegaConf.merge(node, loaded)
    for place, target in fixed.items():
        if (named := OmegaConf.select(options, f"{place}._target_")) != target:
            raise UsageError(f"{place}._target_ is {named!r}, where only {target} can be")
    made: Any = OmegaConf.to_object(options)
    check(made)
    return made


def _check_sizes(config: GLAMConfig, weights: Weights) -> None:
    """Compare the networks' shapes with those of the weights before any memory is taken for them.

    Critics have the actor's options, and so are no larger.

    Raises:
        DamagedError: if they do not fit.
    """
    nodes = (getattr(config.world_model, part) for part in ("dynamics", "reward_head", "encoder", "decoder"))
    if not all(is_own(get_method(node._target_)) for node in nodes):
        return  # a class of the user's is tried on numbers when it is made, and wants memory
    with torch.device("meta"):
        world_model = factory.make_world_model(config, weights.action_spec, torch.device("meta"), **weights.observed)
        actor = factory.make_actor(config, world_model, weights.action_spec)
    check_shapes("world_model", world_model, weights)
    check_shapes("actor", actor, weights)


def _build(folder: Path, config: GLAMConfig, weights: Weights, device: torch.device) -> LoadedRun:
    world_model = factory.make_world_model(config, weights.action_spec, device, **weights.observed)
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
