"""What was really played beside what the world model makes of it, and by how much it errs, step by step.

``r`` rows, each with a start of its own; ``t`` steps; ``h w`` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from torchrl_glam import presentation as figures
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.presentation import csv_text
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.pictures.frames import enlarge

MARGIN, HEADER, GAP = 64, 36, 4  # pixels for the rows' names, for the columns' names, between frames


@dataclass
class Comparison:
    """Real frames beside others of the same steps.

    Args:
        frames: uint8 ``[r t h w 3]``: ``real``; ``reconstructed`` from the latent of each; ``imagined`` after the
            context from the same actions.
        errors: mean absolute errors ``[r t]``, of 1, of ``reconstructed``, ``imagined`` and ``context frame``, the last
            one before the steps, shown on and on: who imagines worse than that knows nothing.
    """

    frames: dict[str, Tensor]
    errors: dict[str, Tensor]

    def __str__(self) -> str:
        """The errors' means."""
        return ", ".join(f"{name} {error.mean():.4f}" for name, error in self.errors.items())


@torch.no_grad()
def compare_imagination(env: GLAMImaginedEnv, records: TensorDict, context_length: int) -> Comparison:
    """Read contexts of real frames, imagine what follows under the actions really taken, and measure the errors.

    Latents are sampled: seed torch for the same result again.

    Args:
        env: imagines; its world model is in eval mode.
        records: ``pixels`` and ``action`` of consecutive real steps ``[r context_length+t]``.
        context_length: records that are read.
    """
    world_model = env.transition.world_model
    pixels, action = records["pixels"].to(env.device), records["action"].to(env.device)
    state, _, memory = env.transition.start(pixels[:, :context_length], action[:, :context_length])
    states = [state]
    for taken in action[:, context_length:-1].unbind(1):
        state, _, memory = env.transition(state, taken, memory)
        states.append(state)
    real = pixels[:, context_length:]
    frames = {"real": real}
    for name, latents in {"reconstructed": world_model.encode(real), "imagined": torch.stack(states, 1)}.items():
        decoded = world_model.decoder(latents).movedim(-3, -1)
        frames[name] = decoded.clamp(0, 1).mul(255).round().to(torch.uint8)
    guesses = {**frames, "context frame": pixels[:, context_length - 1, None].expand_as(real)}
    del guesses["real"]
    errors = {
        name: (guess.int() - real.int()).abs().double().mean((-3, -2, -1)) / 255 for name, guess in guesses.items()
    }
    return Comparison(*({name: entry.cpu() for name, entry in entries.items()} for entries in (frames, errors)))


def draw_comparison(comparison: Comparison, rows: list[str], *, scale: int = 3) -> Tensor:
    """A video ``[t h w 3]`` with a row for each start and a column for each kind of frame, and the mean errors above.

    Args:
        comparison: of :func:`compare_imagination`.
        rows: names of the rows.
        scale: how many times as large a frame is shown.
    """
    frames, errors = comparison.frames, comparison.errors
    _, steps, height, width, _ = frames["real"].shape
    height, width = height * scale, width * scale
    size = (HEADER + len(rows) * (height + GAP), MARGIN + len(frames) * (width + GAP))
    video = np.full((steps, *size, 3), 255, np.uint8)
    for step, canvas in enumerate(video):
        _write(canvas, "from", 4, 14)
        _write(canvas, "error", 4, 30)
        for column, (name, images) in enumerate(frames.items()):
            left = MARGIN + column * (width + GAP)
            _write(canvas, name, left, 14)
            _write(canvas, f"{errors[name][:, step].mean():.4f}" if name in errors else f"step {step + 1}", left, 30)
            for row in range(len(rows)):
                top = HEADER + row * (height + GAP)
                canvas[top : top + height, left : left + width] = enlarge(images[row, step].numpy(), scale)
        for row, name in enumerate(rows):
            _write(canvas, name, 4, HEADER + row * (height + GAP) + height // 2)
    return torch.from_numpy(video)


def write_errors(path: Path, comparison: Comparison, rows: list[str]) -> None:
    """Write a CSV file, a line for each step of each row.

    Raises:
        UsageError: if it cannot be written.
    """
    titles = ["start", "step", *(name.replace(" ", "_") for name in comparison.errors)]
    table = []
    for row, name in enumerate(rows):
        for step, errors in enumerate(zip(*(error[row].tolist() for error in comparison.errors.values()), strict=True)):
            table.append([name, step + 1, *(f"{error:.6f}" for error in errors)])
    write_file(path, csv_text(titles, table).encode())


def plot_errors(path: Path, comparison: Comparison) -> bool:
    """Write a PNG of the errors against the step, means over the rows, if matplotlib is there to draw it.

    Returns:
        Whether it is there.

    Raises:
        UsageError: if the file cannot be written.
    """
    if not figures.has_matplotlib:
        return False
    figure = figures.make_figure(6, 3.5)
    axes = figure.subplots()
    for name, error in comparison.errors.items():
        axes.plot(range(1, error.shape[1] + 1), error.mean(0), marker=".", label=name)
    axes.set(xlabel="steps after the context", ylabel="mean absolute error, of 1", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figures.save_figure(figure, path)
    return True


def _write(canvas: np.ndarray, text: str, left: int, bottom: int) -> None:
    cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
