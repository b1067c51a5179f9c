"""Real frames beside the world model's, and the error of each step.

``r`` rows, each with a start of its own; ``t`` steps; ``h w`` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from torchrl_glam import presentation
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.imagination import decode_frames, imagine_frames
from torchrl_glam.tools.pictures.frames import enlarge, tile


@dataclass
class Comparison:
    """Real frames, and guesses of them.

    Args:
        frames: uint8 ``[r t h w 3]``: ``real``; ``reconstructed`` from the latent of each; ``imagined`` after the
            context under the actions really taken.
        still: uint8 ``[r h w 3]``, the last frame of the context.
    """

    frames: dict[str, Tensor]
    still: Tensor

    @property
    def guesses(self) -> dict[str, Tensor]:
        """Frames ``[r t h w 3]``: the world model's, and the ``context frame``, which any useful model improves on."""
        made = {name: frames for name, frames in self.frames.items() if name != "real"}
        return {**made, "context frame": self.still[:, None].expand_as(self.frames["real"])}

    @cached_property
    def errors(self) -> dict[str, Tensor]:
        """Mean absolute errors ``[r t]`` of each guess; colours go from 0 to 1."""
        return {name: self.difference(guess).mean((-3, -2, -1)) / 255 for name, guess in self.guesses.items()}

    def difference(self, guess: Tensor) -> Tensor:
        """Return the absolute difference of a guess from the real frames, float64 ``[r t h w 3]`` from 0 to 255."""
        return (guess.int() - self.frames["real"].int()).abs().double()

    def __str__(self) -> str:
        """Return the means of the errors."""
        return ", ".join(f"{name} {error.mean():.4f}" for name, error in self.errors.items())


@torch.no_grad()
def compare_imagination(env: GLAMImaginedEnv, records: TensorDict, context_length: int) -> Comparison:
    """Read contexts of real frames, and imagine what follows under the actions really taken.

    Latents are sampled: seed torch for the same result again.

    Args:
        env: imagines; its world model is in eval mode.
        records: ``pixels`` and ``action`` of consecutive real steps ``[r context_length+t]``.
        context_length: number of records that are read.
    """
    world_model = env.transition.world_model
    pixels, action = records["pixels"].to(env.device), records["action"].to(env.device)
    real = pixels[:, context_length:]
    imagined = imagine_frames(env.transition, pixels, action, context_length)
    frames = {
        "real": real,
        "reconstructed": decode_frames(world_model, world_model.encode(real)),
        "imagined": imagined,
    }
    return Comparison({name: entry.cpu() for name, entry in frames.items()}, pixels[:, context_length - 1].cpu())


def draw_comparison(comparison: Comparison, rows: list[str], *, scale: int = 3) -> Tensor:
    """Draw a video ``[t h w 3]``: a row for each start, a column for each kind of frame, the mean errors above.

    Args:
        comparison: of :func:`compare_imagination`.
        rows: names of the rows.
        scale: factor of the enlargement.
    """
    frames, video = comparison.frames, []
    for step in range(frames["real"].shape[1]):
        errors = {name: f"{error[:, step].mean():.4f}" for name, error in comparison.errors.items()}
        titles = [f"{name}\n{errors.get(name, f'step {step + 1}')}" for name in frames]
        images = [[enlarge(of[row, step].numpy(), scale) for of in frames.values()] for row in range(len(rows))]
        video.append(tile(images, rows, titles, columns=len(frames), corner="from\nerror"))
    return torch.from_numpy(np.stack(video))


def write_errors(path: Path, comparison: Comparison, rows: list[str]) -> None:
    """Write a CSV file with a line for each step of each row.

    Raises:
        UsageError: if it cannot be written.
    """
    titles = ["start", "step", *(name.replace(" ", "_") for name in comparison.errors)]
    errors = torch.stack(list(comparison.errors.values()), -1).tolist()  # [r t guesses]
    table = [
        [name, step, *(f"{error:.6f}" for error in of_step)]
        for name, of_row in zip(rows, errors, strict=True)
        for step, of_step in enumerate(of_row, 1)
    ]
    write_file(path, presentation.csv_text(titles, table).encode())


def plot_errors(path: Path, comparison: Comparison) -> bool:
    """Write a PNG of the errors against the step, means over the rows.

    Returns:
        False if matplotlib is missing, and nothing is drawn.

    Raises:
        UsageError: if the file cannot be written.
    """
    if not presentation.has_matplotlib:
        return False
    figure = presentation.make_figure(6, 3.5)
    axes = figure.subplots()
    for name, error in comparison.errors.items():
        axes.plot(range(1, error.shape[1] + 1), error.mean(0), marker=".", label=name)
    axes.set(xlabel="steps after the context", ylabel="mean absolute error, of 1", ylim=(0, None))
    axes.grid(alpha=0.3)
    presentation.share_legend(figure, [axes])
    presentation.save_figure(figure, path)
    return True
