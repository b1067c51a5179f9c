"""A run for others: its networks as one file with the options, its real records as a local Minari dataset.

Minari (https://minari.farama.org) comes with the extra ``[minari]``; nothing is downloaded or sent.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from tensordict import TensorDictBase

from torchrl_glam.config import GLAMConfig
from torchrl_glam.data.minari_files import check_new_dataset, datasets_root, has_minari, write_dataset
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.runs.checkpoint import WEIGHTS, TrainedNetworks
from torchrl_glam.runs.checkpoint.checkpoints import find_weights
from torchrl_glam.runs.folder import write_options
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.runs.records import record_range, stream_episodes, stream_records

CONTENT = """\
Observations are RGB images as the agent saw them, the reward is not clipped. {actions} An info, life_loss, tells of \
each step whether a life was lost or the episode terminated. The run kept the frame before each step only: the \
observation after an episode's last step is the frame before it once more. An episode that had not ended is truncated \
a step early, so that its last observation is real; the first episode of an environment may lack its beginning."""


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

    An observation is a frame before a step. Our records do not hold the one after an episode's last step: there the
    last frame is repeated. An episode that is unfinished where the records end is marked as truncated and ends with
    its last frame; the step taken there is left out. ``life_loss`` is in the infos, whose first entry, at the reset, is
    false. Actions are ``Discrete`` numbers, several at once ``MultiDiscrete``, or, where they are continuous, the
    ``Box`` from -1 to 1 that agents act in. Frames are stored without JPEG, so that ``minari.load_dataset`` reads
    exactly what was played.

    :func:`torchrl_glam.offline.load_dataset` reads it; TorchRL's ``MinariExperienceReplay`` returns zeros (0.14.1).

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
        description=_describe(config, continuous),
        observation_space=Box(0, 255, tuple(first["pixels"].shape[1:]), np.uint8),
        action_space=actions,
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

    frames, steps = episode["pixels"].numpy(), len(episode) - (not ended)
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
        observations=np.concatenate([frames, frames[-1:]]) if ended else frames,
        actions=action.numpy(),
        rewards=following["reward"].flatten().numpy(),
        terminations=terminated,
        truncations=truncated,
        infos={"life_loss": np.concatenate([[False], following["life_loss"].flatten().numpy()])},
    )


def _describe(config: GLAMConfig, continuous: bool) -> str:
    """Return the dataset's description, for its metadata."""
    kind = "Actions are numbers from 0, of an ALE game's minimal set."
    if continuous:
        kind = "Actions are scaled to -1 .. 1 from the bounds of the environment's own."
    env = config.env
    played = f"{env.name} (protocol {env.protocol.value}, frame skip {env.frame_skip or 'default'})"
    return f"The real steps of a run of torchrl_glam in {played}, seed {config.seed}. {CONTENT.format(actions=kind)}"
