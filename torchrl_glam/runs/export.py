"""A run for others: its networks as one file with the options, its real records as a local Minari dataset.

Minari (https://minari.farama.org) comes with the extra ``[minari]``; nothing is downloaded or sent.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from tensordict import TensorDictBase

from torchrl_glam.config import GLAMConfig
from torchrl_glam.data.minari_files import check_new_dataset, datasets_root, has_minari, write_dataset
from torchrl_glam.data.replay import OBSERVATIONS
from torchrl_glam.envs.gymnasium import find_spec
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.runs.checkpoint import WEIGHTS, TrainedNetworks
from torchrl_glam.runs.checkpoint.checkpoints import find_weights
from torchrl_glam.runs.folder import write_options
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.runs.records import record_range, stream_episodes, stream_records

CONTENT = """\
Observations are {observed} as the agent saw them, the reward is not clipped. {actions} An info, life_loss, tells of \
each step whether a life was lost or the episode terminated. The run kept the frame before each step only: the \
observation after an episode's last step is the frame before it once more. An episode that had not ended is truncated \
a step early, so that its last observation is real; the first episode of an environment may lack its beginning."""


VECTOR = "observation"
KINDS = {"pixels": "images", VECTOR: "vectors"}
SCALING = WrapperSpec(
    "RescaleAction", "gymnasium.wrappers.transform_action:RescaleAction", {"min_action": -1.0, "max_action": 1.0}
)
"""What makes an environment's own continuous actions those of our agents."""


def export_weights(run: LoadedRun, folder: Path) -> Path:
    """Write ``config.yaml`` and ``weights.safetensors``, which hold all that acting and imagining need.

    World model, actor and critic, where there is one, go into one file, ``network.parameter`` each. Optimizers, replay
    and the rest that only resuming needs stay behind. The folder is there when all of it is.

    Args:
        run: from :func:`torchrl_glam.runs.loading.load_run`.
        folder: new, or empty.

    Returns:
        The folder.

    Raises:
        UsageError: if there is something in it, or it cannot be written.
    """
    networks = {"world_model": run.world_model, "actor": run.actor, "critic": run.critic}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"out={folder} is there already: choose another folder or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
            made = Path(temporary, folder.name)
            made.mkdir()
            write_options(made, run.config)
            present = {name: network for name, network in networks.items() if network is not None}
            TrainedNetworks(present, run.action_spec, run.frame).write(made / WEIGHTS)
            os.replace(made, folder)
    except OSError as error:
        raise UsageError(
            f"out={folder} cannot be written ({error.strerror or error}): choose another folder"
        ) from error
    return folder


def export_minari(folder: Path, config: GLAMConfig, *, dataset_id: str | None = None, root: Path | None = None) -> str:
    """Write the records of a run, as many as its replay kept, to a new Minari dataset, episode by episode.

    An observation is a frame before a step, a vector, or a ``Dict`` of ``pixels`` and ``observation``. Our records do
    not hold the one after an episode's last step: there the last one is repeated. An episode that is unfinished where
    the records end is marked as truncated and ends with its last observation; the step taken there is left out.
    ``life_loss`` is in the infos, whose first entry, at the reset, is false. Actions are ``Discrete`` numbers, several
    at once ``MultiDiscrete``, or, where they are continuous, the ``Box`` from -1 to 1 that agents act in. Frames are
    stored without JPEG, so that ``minari.load_dataset`` reads exactly what was played. A dataset of vectors names its
    environment, with the scaling of its actions, if ``env.name`` observes the same.

    :func:`torchrl_glam.offline.load_dataset` reads it, unless it is of both; TorchRL's ``MinariExperienceReplay``
    returns zeros (0.14.1).

    Args:
        folder: the run's.
        config: its options, as :func:`torchrl_glam.runs.loading.read_config` reads them.
        dataset_id: its name, ``(namespace/)name-v0``; by default after game and seed.
        root: the folder of datasets; by default ``MINARI_DATASETS_PATH`` or Minari's own, ``~/.minari/datasets``.

    Returns:
        The dataset's id.

    Raises:
        UsageError: if Minari is missing, the id is malformed or taken, there are no records, or the folder cannot be
            written.
    """
    if not has_minari:
        raise UsageError('to=minari needs packages that are missing: pip install "torchrl_glam[minari]"')
    record_range(folder)  # refuses a folder without records before anything is made
    dataset_id = dataset_id or default_dataset_id(config)
    root = datasets_root(root)
    check_new_dataset(dataset_id, root, "out")
    first = next(stream_records(folder))
    size, continuous = first["action"].shape[-1], first["action"].dtype.is_floating_point
    sizes = None if continuous else [size]
    if not continuous and first["action"].sum() > 1:  # several at once: only the weights' file knows of what sizes
        sizes = block_sizes(find_weights(folder, "newest").action_spec)
    actions: Space = Box(-1.0, 1.0, (size,), np.float32)
    if sizes is not None:
        actions = Discrete(size) if len(sizes) == 1 else MultiDiscrete(sizes)
    observed = [key for key in OBSERVATIONS if key in first]
    episodes: Any = (
        buffer
        for episode, ended in stream_episodes(folder, config.env.num_envs)
        if (buffer := _to_buffer(episode, ended, sizes)) is not None
    )
    write_dataset(
        dataset_id,
        episodes,
        root=root,
        option="out",
        algorithm_name=f"GLAM ({config.objective.name})",
        description=_describe(config, observed, continuous),
        observation_space=_observation_space(first.select(*observed)),
        action_space=actions,
        env=find_recorded_spec(config, first["observation"].shape[1:], continuous) if observed == [VECTOR] else None,
    )
    return dataset_id


def default_dataset_id(config: GLAMConfig) -> str:
    """Return a name after game and seed.

    Examples:
        >>> from torchrl_glam.config import GLAMConfig
        >>> from torchrl_glam.runs.export import default_dataset_id
        >>> default_dataset_id(GLAMConfig(seed=3))
        'glam/pong-seed3-v0'
    """
    game = re.sub(r"-v\d+$", "", re.split("[/:]", config.env.name)[-1])
    return f"glam/{re.sub(r'[^a-z0-9]+', '-', game.lower()).strip('-') or 'game'}-seed{config.seed}-v0"


def _to_buffer(episode: TensorDictBase, ended: bool, sizes: list[int] | None) -> Any:
    """Return an episode as Minari's, or ``None`` if it has no whole step; ``sizes`` are discrete actions' choices."""
    from minari.data_collector import EpisodeBuffer

    steps = len(episode) - (not ended)
    if steps == 0:
        return None
    action, following = episode["action"][:steps], episode["next"][:steps]
    if sizes is not None:
        action = torch.stack([block.argmax(-1) for block in action.split(sizes, -1)], -1)
        action = action.squeeze(-1) if len(sizes) == 1 else action
    terminated = following["terminated"].flatten().numpy()
    truncated = following["done"].flatten().numpy() & ~terminated
    truncated[-1] |= not ended
    return EpisodeBuffer(
        observations=_join_observations(episode, ended),
        actions=action.numpy(),
        rewards=following["reward"].flatten().numpy(),
        terminations=terminated,
        truncations=truncated,
        infos={"life_loss": np.concatenate([[False], following["life_loss"].flatten().numpy()])},
    )


def _join_observations(episode: TensorDictBase, ended: bool) -> Any:
    """Return observations [t+1], the last one once more if that after the last step is missing; of both a dict."""
    entries = {key: episode[key].numpy() for key in OBSERVATIONS if key in episode}
    if ended:
        entries = {key: np.concatenate([entry, entry[-1:]]) for key, entry in entries.items()}
    return entries if len(entries) > 1 else next(iter(entries.values()))


def _observation_space(records: TensorDictBase) -> Space:
    """Return the space of observations [t]."""
    spaces: dict[str, Space] = {}
    for key, entry in records.items():
        pixels = entry.dtype == torch.uint8
        low, high = (0, 255) if pixels else (-np.inf, np.inf)
        spaces[key] = Box(low, high, tuple(entry.shape[1:]), np.uint8 if pixels else np.float32)
    return Dict(spaces) if len(spaces) > 1 else next(iter(spaces.values()))


def find_recorded_spec(config: GLAMConfig, shape: torch.Size, continuous: bool) -> EnvSpec | None:
    """Return the specification of a run's environment, with its continuous actions scaled to -1 .. 1.

    Args:
        config: the run's.
        shape: of the vectors that it observed.
        continuous: whether actions are.

    Returns:
        ``None`` if there is no such environment, or it observes something else than these vectors.
    """
    if config.env.frame_skip not in (None, 1):
        return None
    try:
        spec = find_spec(config.env.name)
        spec = replace(spec, additional_wrappers=(SCALING,) if continuous else ())
        env = gymnasium.make(find_spec(config.env.name))
        env.close()
        spec.to_json()
    except Exception:  # such as of somebody's environment, which is not needed here
        return None
    return spec if isinstance(env.observation_space, Box) and env.observation_space.shape == tuple(shape) else None


def _describe(config: GLAMConfig, observed: Sequence[str], continuous: bool) -> str:
    """Return the dataset's description, for its metadata."""
    kind = "Actions are numbers from 0; those of an ALE game are its minimal set."
    if continuous:
        kind = "Actions are scaled to -1 .. 1 from the bounds of the environment's own."
    env = config.env
    played = f"{env.name} (protocol {env.protocol.value}, frame skip {env.frame_skip or 'default'})"
    content = CONTENT.format(observed=" and ".join(KINDS[key] for key in observed), actions=kind)
    return f"The real steps of a run of torchrl_glam in {played}, seed {config.seed}. {content}"
