"""What a run shows of its world model while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tensordict import TensorDictBase
from torchrl.record.loggers import Logger

from torchrl_glam.modules import GLAMWorldModel, SequenceBackbone
from torchrl_glam.runs.loggers import log_video
from torchrl_glam.tools.pictures.frames import imagine_frames, write_imagined
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

    ``media/imagined-000010000.png`` shows the real frames above the imagined ones, ``media/imagined-000010000.gif`` the
    real ones left of them; loggers that can show a video get it too. Random numbers are drawn aside, so that a run goes
    on as if nothing had been written.

    Args:
        folder: the run's.
        loggers: the run's.
        frame: real steps so far.
        world_model: in eval mode, as it is between its updates.
        records: ``pixels`` and ``action`` of consecutive real steps ``[t]``, on the world model's device.
        context_length: records that are read; the others are imagined under the actions really taken.
        dynamics: a stand-in for the world model's backbone, as the run imagines with one.

    Raises:
        UsageError: unless ``0 < context_length < t``, or if the files cannot be written.
    """
    device = records["pixels"].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        imagined = imagine_frames(world_model, records["pixels"], records["action"], context_length, dynamics=dynamics)
    real = records["pixels"][context_length:].cpu()
    name = folder / MEDIA / f"imagined-{frame:09d}"
    write_imagined(name.with_suffix(".png"), real, imagined)
    video = name.with_suffix(".gif")
    write_video(video, torch.cat([real, torch.full_like(real[:, :, :2], 255), imagined], 2), fps=FPS)
    log_video(loggers, f"{MEDIA}/imagined", video, frame)
