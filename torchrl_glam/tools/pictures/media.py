"""Pictures and videos that a run writes of its world model while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tensordict import TensorDictBase
from torchrl.record.loggers import Logger

from torchrl_glam.machine.generators import kept_generators
from torchrl_glam.modules import GLAMWorldModel, SequenceBackbone
from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.runs.loggers import log_video
from torchrl_glam.tools.imagination import imagine_frames
from torchrl_glam.tools.pictures.frames import write_imagined
from torchrl_glam.tools.pictures.videos import write_video

MEDIA = "media"
FPS = 7.5  # half an Atari game's speed at frame skip 4


def write_media(
    folder: Path,
    loggers: Sequence[Logger],
    frame: int,
    world_model: GLAMWorldModel,
    records: TensorDictBase,
    context_length: int,
    *,
    dynamics: SequenceBackbone | None = None,
) -> None:
    """Write what the world model imagines after a context of real frames, as a picture and a video.

    ``media/imagined-000010000.png`` shows the real frames above the imagined ones, ``media/imagined-000010000.gif``
    left of them; loggers that can show a video get it too. Random numbers are drawn in a fork of the generators, so
    that the run does not change.

    Args:
        folder: the run's.
        loggers: the run's.
        frame: number of real steps so far.
        world_model: in eval mode.
        records: ``pixels`` and ``action`` of consecutive real steps ``[t]``, on the world model's device.
        context_length: number of records that are read; the others are imagined under the actions really taken.
        dynamics: replaces the world model's backbone, where the run imagines with another one.

    Raises:
        UsageError: unless ``0 < context_length < t``, or if the files cannot be written.
    """
    pixels, action = records["pixels"], records["action"]
    transition = LatentTransition(world_model, dynamics or world_model.dynamics)
    with kept_generators():
        (imagined,) = imagine_frames(transition, pixels[None], action[None], context_length).cpu()
    real = pixels[context_length:].cpu()
    name = folder / MEDIA / f"imagined-{frame:09d}"
    write_imagined(name.with_suffix(".png"), real, imagined)
    video = name.with_suffix(".gif")
    write_video(video, torch.cat([real, torch.full_like(real[:, :, :2], 255), imagined], 2), fps=FPS)
    log_video(loggers, f"{MEDIA}/imagined", video, frame)
