"""What was really observed beside the world model's guesses, and the error of each step.

``r`` rows, each with a start of its own; ``t`` steps; ``h w c`` pixels; ``n`` numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules import symlog

from torchrl_glam import presentation
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.runs.files import write_file
from torchrl_glam.tools.imagination import decode_observations, imagine_observations
from torchrl_glam.tools.pictures.frames import enlarge, tile, to_rgb


@dataclass
class Comparison:
    """Real frames, and guesses of them; of pixels, or of a vector.

    Args:
        frames: uint8 ``[r t h w c]`` or floats ``[r t n]``: ``real``; ``reconstructed`` from the latent of each;
            ``imagined`` after the context under the actions really taken.
        still: ``[r h w c]`` or ``[r n]``, the last frame of the context.
    """

    frames: dict[str, Tensor]
    still: Tensor

    @property
    def guesses(self) -> dict[str, Tensor]:
        """Frames ``[r t ..]``: the world model's, and the ``context frame``, which any useful model improves on."""
        made = {name: frames for name, frames in self.frames.items() if name != "real"}
        return {**made, "context frame": self.still[:, None].expand_as(self.frames["real"])}

    @cached_property
    def errors(self) -> dict[str, Tensor]:
        """Mean absolute errors ``[r t]`` of each guess."""
        return {name: self.difference(guess).flatten(2).mean(-1) for name, guess in self.guesses.items()}

    def difference(self, guess: Tensor) -> Tensor:
        """Return the absolute difference of a guess from the real frames, in float64.

        Colours go from 0 to 1; vectors are compared in symlog space, as in training.
        """
        real = self.frames["real"]
        if real.dtype == torch.uint8:
            return (guess.int() - real.int()).abs().double() / 255
        return (symlog(guess.double()) - symlog(real.double())).abs()

    def __str__(self) -> str:
        """Return the means of the errors."""
        return ", ".join(f"{name} {error.mean():.4f}" for name, error in self.errors.items())


@torch.no_grad()
def compare_imagination(env: GLAMImaginedEnv, records: TensorDictBase, context_length: int) -> dict[str, Comparison]:
    """Read contexts of real steps, and imagine what follows under the actions really taken.

    Latents are sampled: seed torch for the same result again.

    Args:
        env: imagines; its world model is in eval mode.
        records: consecutive real steps ``[r context_length+t]``, see
            :func:`~torchrl_glam.tools.imagination.imagine_observations`.
        context_length: number of records that are read.

    Returns:
        By entry of the observation: ``pixels``, ``observation``, or both.
    """
    world_model, records = env.transition.world_model, records.to(env.device)
    latents = world_model.encode_sequence(world_model.observation(records))[:, context_length:]
    guesses = {
        "reconstructed": decode_observations(world_model, latents).cpu(),
        "imagined": imagine_observations(env.transition, records, context_length).cpu(),
    }
    compared = {}
    for key in world_model.observation_keys:
        real = records[key].cpu()
        frames = {"real": real[:, context_length:], **{name: guess[key] for name, guess in guesses.items()}}
        compared[key] = Comparison(frames, real[:, context_length - 1])
    return compared


def describe_errors(comparisons: Mapping[str, Comparison]) -> str:
    """Return the mean errors in words."""
    spaces = {key: "" if key == "pixels" else f" of the {key}, in symlog space" for key in comparisons}
    return "; ".join(f"mean absolute error{spaces[key]}: {own}" for key, own in comparisons.items())


def draw_comparison(comparison: Comparison, rows: list[str], *, scale: int = 3) -> Tensor:
    """Draw a video ``[t h w 3]``: a row for each start, a column for each kind of frame, the mean errors above.

    Args:
        comparison: of pixels.
        rows: names of the rows.
        scale: factor of the enlargement.
    """
    frames, video = {name: to_rgb(entry) for name, entry in comparison.frames.items()}, list[np.ndarray]()
    for step in range(frames["real"].shape[1]):
        errors = {name: f"{error[:, step].mean():.4f}" for name, error in comparison.errors.items()}
        titles = [f"{name}\n{errors.get(name, f'step {step + 1}')}" for name in frames]
        images = [[enlarge(of[row, step].numpy(), scale) for of in frames.values()] for row in range(len(rows))]
        video.append(tile(images, rows, titles, columns=len(frames), corner="from\nerror"))
    return torch.from_numpy(np.stack(video))


def write_errors(path: Path, comparisons: Mapping[str, Comparison], rows: list[str]) -> None:
    """Write a CSV file with a line for each step of each row; of several entries, each has columns of its own.

    Raises:
        UsageError: if it cannot be written.
    """
    named = {
        (f"{key} {name}" if len(comparisons) > 1 else name).replace(" ", "_"): error
        for key, comparison in comparisons.items()
        for name, error in comparison.errors.items()
    }
    titles = ["start", "step", *named]
    errors = torch.stack(list(named.values()), -1).tolist()  # [r t guesses]
    table = [
        [name, step, *(f"{error:.6f}" for error in of_step)]
        for name, of_row in zip(rows, errors, strict=True)
        for step, of_step in enumerate(of_row, 1)
    ]
    write_file(path, presentation.csv_text(titles, table).encode())


def plot_errors(path: Path, comparisons: Mapping[str, Comparison]) -> bool:
    """Write a PNG of the errors against the step, means over the rows; a panel for each entry.

    Returns:
        False if matplotlib is missing, and nothing is drawn.

    Raises:
        UsageError: if the file cannot be written.
    """
    if not presentation.has_matplotlib:
        return False
    figure = presentation.make_figure(6 * len(comparisons), 3.5)
    panels = list(figure.subplots(1, len(comparisons), squeeze=False).flat)
    for axes, (key, comparison) in zip(panels, comparisons.items(), strict=True):
        for name, error in comparison.errors.items():
            axes.plot(range(1, error.shape[1] + 1), error.mean(0), marker=".", label=name)
        unit = "of 1" if key == "pixels" else "in symlog space"
        axes.set(xlabel="steps after the context", ylabel=f"mean absolute error, {unit}", ylim=(0, None))
        axes.grid(alpha=0.3)
    presentation.share_legend(figure, panels)
    presentation.save_figure(figure, path)
    return True
