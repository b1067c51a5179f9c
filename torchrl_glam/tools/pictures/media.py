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
from torchrl_glam.runs.loggers import log_media
from torchrl_glam.tools.imagination import imagine_observations
from torchrl_glam.tools.pictures.frames import write_imagined
from torchrl_glam.tools.pictures.traces import write_traces
from torchrl_glam.tools.pictures.videos import write_video

MEDIA = "media"
TRACES = "-traces.png"  # the end of a file's name
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
    """Write what the world model imagines after a context of real steps.

    Of pixels, ``media/imagined-000010000.png`` shows the real frames above the imagined ones, and
    ``media/imagined-000010000.gif`` left of them. Of a vector, ``media/imagined-000010000-traces.png`` shows both over
    time. Loggers that can show video and traces get them too. Random numbers are drawn in a fork of the generators, so
    that the run does not change.

    Args:
        folder: the run's.
        loggers: the run's.
        frame: number of real steps so far.
        world_model: in eval mode.
        records: consecutive real steps ``[t]``, as the replay holds them, on the world model's device.
        context_length: number of records that are read; the others are imagined under the actions really taken.
        dynamics: replaces the world model's backbone, where the run imagines with another one.

    Raises:
        UsageError: unless ``0 < context_length < t``, or if the files cannot be written.
    """
    transition = LatentTransition(world_model, dynamics or world_model.dynamics)
    with kept_generators():
        imagined = imagine_observations(transition, records[None], context_length)[0].cpu()
    name = folder / MEDIA / f"imagined-{frame:09d}"
    for key, guess in imagined.items():
        real = records[key][context_length:].cpu()
        if key == "pixels":
            write_imagined(name.with_suffix(".png"), real, guess)
            shown = name.with_suffix(".gif")
            write_video(shown, torch.cat([real, torch.full_like(real[:, :, :2], 255), guess], 2), fps=FPS)
        else:
            shown = name.with_name(f"{name.name}{TRACES}")
            write_traces(shown, {"real": real[None], "imagined": guess[None]})
        log_media(loggers, f"{MEDIA}/imagined{'' if key == 'pixels' else '_traces'}", shown, frame)


def write_episode(path: Path, observations: TensorDictBase, *, fps: float = 15, scale: int = 3) -> list[Path]:
    """Write an episode: its pixels as a video, its vector as traces over time.

    Args:
        path: of the video, ``NAME.gif``; the traces are ``NAME-traces.png``.
        observations: ``[t]``, with ``pixels``, ``observation`` or both.
        fps, scale: of the video.

    Returns:
        The files.

    Raises:
        UsageError: if they cannot be written.
    """
    written = []
    if (pixels := observations.get("pixels", None)) is not None:
        write_video(path, pixels, fps=fps, scale=scale)
        written.append(path)
    if (vector := observations.get("observation", None)) is not None:
        written.append(path.with_name(f"{path.stem}{TRACES}"))
        write_traces(written[-1], {"real": vector[None]}, first=0)
    return written
