"""Encoders q(z | x) and decoders: images, vectors, and both at once."""

from __future__ import annotations

from torchrl_glam.modules.autoencoders.base import (
    Encoder,
    FrameEncoder,
    Observation,
    postprocess_pixels,
    preprocess_pixels,
    step_before,
)
from torchrl_glam.modules.autoencoders.contract import check_encoder, example_observation, make_coder
from torchrl_glam.modules.autoencoders.image import ImageDecoder, ImageEncoder
from torchrl_glam.modules.autoencoders.mixed import (
    JoinedDecoder,
    JoinedEncoder,
    MixedDecoder,
    MixedEncoder,
    auto_decoder,
    auto_encoder,
)
from torchrl_glam.modules.autoencoders.patch import PatchDecoder, PatchEncoder
from torchrl_glam.modules.autoencoders.vector import VectorDecoder, VectorEncoder

__all__ = [
    "Encoder",
    "FrameEncoder",
    "ImageDecoder",
    "ImageEncoder",
    "JoinedDecoder",
    "JoinedEncoder",
    "MixedDecoder",
    "MixedEncoder",
    "Observation",
    "PatchDecoder",
    "PatchEncoder",
    "VectorDecoder",
    "VectorEncoder",
    "auto_decoder",
    "auto_encoder",
    "check_encoder",
    "example_observation",
    "make_coder",
    "postprocess_pixels",
    "preprocess_pixels",
    "step_before",
]
