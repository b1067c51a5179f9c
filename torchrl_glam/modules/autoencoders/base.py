"""What every encoder q(z | x) is: an observation to floats, floats to features, features to the latent's logits.

``b`` any leading shape, ``h w`` pixels, ``n`` numbers of a vector, ``k c`` categoricals and classes, ``f`` features.

An observation is a tensor, or of an encoder of several entries a TensorDict of them, under their ``in_keys``:
``pixels`` ``[*b h w channels]`` uint8, ``observation`` ``[*b n]``. ``preprocess`` turns it into *frames*, floats of the
same kind, which the encoder reads and a decoder is compared with.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float, UInt8
from tensordict import TensorDictBase
from torch import Tensor, nn

from torchrl_glam.modules.latent import unimix_logits

Observation: TypeAlias = "Tensor | TensorDictBase"
Entries = TypeVar("Entries", Tensor, TensorDictBase)


class Encoder(nn.Module):
    """The common part of encoders. A subclass computes ``preprocess`` and ``extract``, and calls ``add_head`` last.

    Args:
        num_categoricals: ``k``.
        num_classes: ``c``.
        unimix: uniform share of each categorical.

    Attributes:
        in_keys: the entries that it reads.
        difference: True if it reads what changed since the step before.
        num_features: ``f``.
    """

    in_keys: tuple[str, ...]
    difference = False
    num_features: int
    head: nn.Linear

    def __init__(self, num_categoricals: int, num_classes: int, unimix: float) -> None:
        super().__init__()
        self.latent_shape = (num_categoricals, num_classes)
        self.unimix = unimix

    def add_head(self, num_features: int) -> None:
        """Add the linear layer from the features to the logits."""
        self.num_features = num_features
        self.head = nn.Linear(num_features, self.latent_shape[0] * self.latent_shape[1])

    def forward(
        self, observation: Observation, previous: Observation | None = None
    ) -> tuple[Float[Tensor, "*b k c"], Float[Tensor, "*b f"]]:
        """Return the latent's log-probabilities and the features.

        Args:
            observation: as the environment gives it.
            previous: that of the step before, for an encoder that reads differences; they are 0 without it.
        """
        before = None if previous is None or not self.difference else self.preprocess(previous)
        return self.encode(self.preprocess(observation), before)

    def encode(
        self, frames: Observation, previous: Observation | None = None
    ) -> tuple[Float[Tensor, "*b k c"], Float[Tensor, "*b f"]]:
        """Encode what :meth:`preprocess` returned; the result is that of :meth:`forward`."""
        features, logits = self.extract(frames, previous)
        logits = logits.unflatten(-1, self.latent_shape)
        return unimix_logits(logits, self.unimix), features

    def preprocess(self, observation: Observation) -> Observation:
        """Turn an observation into floats."""
        raise NotImplementedError

    def postprocess(self, frames: Observation) -> Observation:
        """Undo :meth:`preprocess`, for pictures of what a decoder returns; images may stay as they are."""
        return frames

    def extract(
        self, frames: Observation, previous: Observation | None = None
    ) -> tuple[Float[Tensor, "*b f"], Float[Tensor, "*b kc"]]:
        """Return features and raw logits."""
        raise NotImplementedError


class FrameEncoder(Encoder):
    """The common part of encoders of images. A subclass computes ``layers``: frames ``[n channels h w]`` to ``[n f]``.

    Frames are channels-last uint8, as environments give them; the networks use channels-first floats in [0, 1].

    Args:
        difference: read the difference to the frame before as further channels. This goes beyond GLAM, after
            DyMoDreamer: what moved, and whence, is in the latent then, and need not be found by the backbone.
    """

    in_keys = ("pixels",)

    def __init__(self, num_categoricals: int, num_classes: int, unimix: float, difference: bool = False) -> None:
        super().__init__(num_categoricals, num_classes, unimix)
        self.difference = difference

    def preprocess(self, observation: UInt8[Tensor, "*b h w channels"]) -> Float[Tensor, "*b channels h w"]:
        """Turn pixels into frames on the 0..1 scale."""
        return preprocess_pixels(observation, self.head.weight.dtype)

    def extract(
        self, frames: Float[Tensor, "*b channels h w"], previous: Float[Tensor, "*b channels h w"] | None = None
    ) -> tuple[Float[Tensor, "*b f"], Float[Tensor, "*b kc"]]:
        """See :class:`Encoder`."""
        inputs = frames.reshape(-1, *frames.shape[-3:])
        if self.difference:
            change = torch.zeros_like(inputs) if previous is None else inputs - previous.reshape(inputs.shape)
            inputs = torch.cat([inputs, change], 1)
        features = self.layers(inputs)
        batch = frames.shape[:-3]
        return features.reshape(*batch, -1), self.head(features).reshape(*batch, -1)

    def layers(self, frames: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n f"]:
        """Return the features."""
        raise NotImplementedError


def preprocess_pixels(
    pixels: UInt8[Tensor, "*b h w channels"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*b channels h w"]:
    """Convert pixels in 0..255 to ``dtype`` in 0..1, channels first."""
    return pixels.movedim(-1, -3).to(dtype) / 255.0


def postprocess_pixels(frames: Float[Tensor, "*b channels h w"]) -> UInt8[Tensor, "*b h w channels"]:
    """Undo :func:`preprocess_pixels`; what lies beyond 0..1 is cut."""
    return frames.movedim(-3, -1).clamp(0, 1).mul(255).round().to(torch.uint8)


def step_before(sequence: Entries) -> Entries:
    """Return the entries of the step before each of ``[b t ..]``; the first one's are its own."""
    return torch.cat([sequence[:, :1], sequence[:, :-1]], 1)
