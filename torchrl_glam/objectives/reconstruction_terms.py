"""The reconstruction terms of the world-model loss: what is decoded against what was observed.

``b`` batch, ``t`` time, ``h w`` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from tensordict import TensorDictBase
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import GLAMWorldModel
from torchrl_glam.objectives import functional as formulas
from torchrl_glam.objectives.term import Term


class ReconstructionTerm(Term):
    """Squared error of what is decoded, all steps: of frames, or of vectors in symlog space.

    Args:
        weight: of the term.
        entry: the one that is compared, where several are observed; the term's name ends in it.
    """

    def __init__(self, weight: float = 1.0, entry: str | None = None) -> None:
        self.name = "reconstruction" if entry is None else f"reconstruction_{entry}"
        super().__init__(**{self.name: weight})
        self.entry = entry

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        decoded, frames = (
            outputs[key] if self.entry is None else outputs[key, self.entry] for key in ("reconstruction", "frames")
        )
        return {self.name: formulas.reconstruction_loss(decoded, frames, self.weigh(frames))}

    def weigh(self, frames: Tensor) -> Tensor | None:
        """Return the weights of what is compared; ``None`` where all weigh 1."""
        return None


class WeightedReconstructionTerm(ReconstructionTerm):
    """Squared error of frames whose pixels do not all weigh the same. This goes beyond GLAM.

    A pixel weighs 1, and more where it moves (:func:`~torchrl_glam.objectives.functional.moving_pixels`) or is no
    background (:func:`~torchrl_glam.objectives.functional.foreground_pixels`). The background is the mean of the
    frames that sequences trained on began with, of about the last 100 batches.

    Args:
        image_shape: (height, width, channels) of a frame.
        weight, entry: see :class:`ReconstructionTerm`.
        motion: what a pixel that moves weighs more.
        foreground: what a pixel weighs more that is no background.
        threshold: change that counts, 0..1 scale.
    """

    background: Tensor
    batches: Tensor
    RATE = 0.01

    def __init__(
        self,
        image_shape: Sequence[int],
        weight: float = 1.0,
        entry: str | None = None,
        *,
        motion: float = 0.0,
        foreground: float = 0.0,
        threshold: float = 0.08,
    ) -> None:
        super().__init__(weight, entry)
        self.motion, self.foreground, self.threshold = motion, foreground, threshold
        if foreground:
            height, width, channels = image_shape
            self.register_buffer("background", torch.zeros(channels, height, width))
            self.register_buffer("batches", torch.zeros(()))

    def weigh(self, frames: Float[Tensor, "b t channels h w"]) -> Float[Tensor, "b t 1 h w"]:
        """See :meth:`ReconstructionTerm.weigh`."""
        frames = formulas.at_least_float32(frames)
        weight = torch.ones_like(frames[:, :, :1])
        if self.motion:
            weight += self.motion * formulas.moving_pixels(frames, self.threshold)
        if self.foreground:
            if self.training:
                self._update_background(frames[:, 0])
            weight += self.foreground * formulas.foreground_pixels(frames, self.background, self.threshold)
        return weight

    @torch.no_grad()
    def _update_background(self, frames: Tensor) -> None:
        self.batches += 1
        rate = self.batches.reciprocal().clamp_min(self.RATE)
        self.background.lerp_(frames.mean(0).to(self.background.dtype), rate)


def make_reconstruction_terms(
    world_model: GLAMWorldModel, motion_weight: float, foreground_weight: float, motion_threshold: float
) -> list[Term]:
    """Make a term for each entry that the world model observes.

    Raises:
        UsageError: if some pixels are to weigh more, and there are no pixels.
    """
    weights = {"motion": motion_weight, "foreground": foreground_weight}
    keys = world_model.observation_keys
    if (given := [name for name, weight in weights.items() if weight]) and "pixels" not in keys:
        raise UsageError(f"{given[0]}_weight is {weights[given[0]]}, and no pixels are observed: leave it out")

    def make(key: str, entry: str | None) -> Term:
        if given and key == "pixels" and (shape := world_model.image_shape):
            return WeightedReconstructionTerm(shape, 1.0, entry, **weights, threshold=motion_threshold)
        return ReconstructionTerm(1.0, entry)

    return [make(keys[0], None)] if len(keys) == 1 else [make(key, key) for key in keys]
