"""Several entries of an observation, one latent: the parts' logits are added, and each entry has a decoder.

``b`` any leading shape, ``k c`` categoricals and classes, ``kc`` both flattened, ``f`` features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.autoencoders.base import Encoder
from torchrl_glam.modules.autoencoders.image import ImageDecoder, ImageEncoder
from torchrl_glam.modules.autoencoders.vector import VectorDecoder, VectorEncoder


class JoinedEncoder(Encoder):
    """Encoder q(z | x) of several entries, each by a part of its own.

    The sum of the parts' logits is one linear layer over all features side by side.

    Args:
        parts: an encoder for each entry; their latents are of one shape.

    Raises:
        UsageError: if they are not.
    """

    def __init__(self, parts: Mapping[str, Encoder]) -> None:
        first = next(iter(parts.values()))
        if any(part.latent_shape != first.latent_shape for part in parts.values()):
            shapes = ", ".join(f"{key} {part.latent_shape}" for key, part in parts.items())
            raise UsageError(f"the encoders' latents differ ({shapes}): make them of one shape")
        super().__init__(*first.latent_shape, first.unimix)
        self.parts: Any = nn.ModuleDict(parts)
        self.in_keys = tuple(parts)
        self.difference = any(part.difference for part in parts.values())
        self.num_features = sum(part.num_features for part in parts.values())

    def preprocess(self, observation: TensorDictBase) -> TensorDictBase:
        """Turn each entry into floats."""
        frames = {key: part.preprocess(observation.get(key)) for key, part in self.parts.items()}
        return TensorDict(frames, batch_size=observation.batch_size)

    def postprocess(self, frames: TensorDictBase) -> TensorDict:
        """Turn each entry's floats into what the environment gives."""
        observation = {key: part.postprocess(frames.get(key)) for key, part in self.parts.items()}
        return TensorDict(observation, batch_size=frames.batch_size)

    def extract(
        self, frames: TensorDictBase, previous: TensorDictBase | None = None
    ) -> tuple[Float[Tensor, "*b f"], Float[Tensor, "*b kc"]]:
        """See :class:`~torchrl_glam.modules.autoencoders.base.Encoder`."""
        extracted = [
            part.extract(frames.get(key), None if previous is None else previous.get(key))
            for key, part in self.parts.items()
        ]
        features, logits = zip(*extracted, strict=True)
        return torch.cat(features, -1), torch.stack(logits).sum(0)


class JoinedDecoder(nn.Module):
    """From one latent sample to several entries.

    Args:
        parts: a decoder for each entry.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts: Any = nn.ModuleDict(parts)

    def forward(self, state: Float[Tensor, "*b kc"]) -> TensorDict:
        """Decode to frames, of each entry."""
        return TensorDict({key: part(state) for key, part in self.parts.items()}, batch_size=state.shape[:-1])


class MixedEncoder(JoinedEncoder):
    """An image by an :class:`ImageEncoder`, and a vector by a :class:`VectorEncoder`.

    Args:
        image_shape: (height, width, channels) of ``pixels``.
        vector_size: of ``observation``.
        channels: of the image's encoder.
        num_categoricals: ``k``.
        num_classes: ``c``.
        unimix: uniform share of each categorical.
        hidden, num_layers: of the vector's encoder.
        difference: of the image's encoder.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        vector_size: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        num_categoricals: int = 32,
        num_classes: int = 32,
        unimix: float = 0.01,
        hidden: int = 256,
        num_layers: int = 2,
        difference: bool = False,
    ) -> None:
        latent = (num_categoricals, num_classes, unimix)
        image = ImageEncoder(image_shape, channels, *latent, difference=difference)
        super().__init__({"pixels": image, "observation": VectorEncoder(vector_size, *latent, hidden, num_layers)})


class MixedDecoder(JoinedDecoder):
    """Mirror of :class:`MixedEncoder`.

    Args:
        image_shape, vector_size, channels, hidden, num_layers: of the encoder.
        state_size: width of the flattened latent, ``k * c``.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        vector_size: int,
        channels: Sequence[int] = (32, 64, 128, 256),
        state_size: int = 1024,
        hidden: int = 256,
        num_layers: int = 2,
    ) -> None:
        image = ImageDecoder(image_shape, channels, state_size)
        super().__init__({"pixels": image, "observation": VectorDecoder(vector_size, state_size, hidden, num_layers)})


def auto_encoder(
    image_shape: Sequence[int] | None = None,
    vector_size: int = 0,
    channels: Sequence[int] = (32, 64, 128, 256),
    num_categoricals: int = 32,
    num_classes: int = 32,
    unimix: float = 0.01,
    hidden: int = 256,
    num_layers: int = 2,
    difference: bool = False,
) -> Encoder:
    """Make the encoder that what is observed wants: of an image, a vector or both.

    Args:
        image_shape: of ``pixels``, if there are any.
        vector_size: of ``observation``, 0 if there is none.
        channels, difference: of an image's encoder.
        num_categoricals, num_classes, unimix: of the latent.
        hidden, num_layers: of a vector's encoder.

    Raises:
        UsageError: if ``difference`` is wanted of a vector alone.
    """
    latent = (num_categoricals, num_classes, unimix)
    if image_shape is None:
        if difference:
            raise UsageError("encoder.difference=true is for images, and a vector alone is observed: leave it out")
        return VectorEncoder(vector_size, *latent, hidden, num_layers)
    if not vector_size:
        return ImageEncoder(image_shape, channels, *latent, difference)
    return MixedEncoder(image_shape, vector_size, channels, *latent, hidden, num_layers, difference)


def auto_decoder(
    image_shape: Sequence[int] | None = None,
    vector_size: int = 0,
    channels: Sequence[int] = (32, 64, 128, 256),
    state_size: int = 1024,
    hidden: int = 256,
    num_layers: int = 2,
) -> nn.Module:
    """Make the mirror of :func:`auto_encoder`; the arguments are the same, and ``state_size`` is ``k * c``."""
    if image_shape is None:
        return VectorDecoder(vector_size, state_size, hidden, num_layers)
    if not vector_size:
        return ImageDecoder(image_shape, channels, state_size)
    return MixedDecoder(image_shape, vector_size, channels, state_size, hidden, num_layers)
