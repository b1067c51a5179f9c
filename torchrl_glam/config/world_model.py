"""Options of the world model and its loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchrl_glam.config.choices import Backbone, Decoding, VariationTarget


@dataclass
class DynamicsConfig:
    """The sequence backbone (``dynamics=...`` chooses it); options that it has no use for are ignored.

    GLAM's two Mambas: GLAM, section "Inference module"; Mamba-1 defaults, arXiv 2312.00752. STORM's Transformer: arXiv
    2310.09615, Table 5, with one layer, as in GLAM's comparison.
    """

    name: Backbone = Backbone.glam
    width: int = 256
    global_layers: int = 1  # of GMamba; of storm's Transformer; of the first of two parallel branches
    local_layers: int = 1  # of LMamba; of the second of two parallel branches
    # Mamba
    window: int = 4  # s, tokens that LMamba sees
    post_norm: bool = True  # Eq. 6: e + Norm(Mamba(Norm(e))); false: e + Mamba(Norm(e)), the released code
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    backend: str = "auto"  # of the selective scan
    # Transformer
    num_heads: int = 8
    dropout: float = 0.1
    max_length: int | None = None  # tokens that it can remember; None: as many as the run's longest sequence
    # A class of yours
    target: str | None = None  # import path of a SequenceBackbone, called as Class(width, **kwargs)
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class WorldModelConfig:
    """Encoder, decoder, latent and heads (STORM Tables 4 and 5)."""

    channels: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    num_categoricals: int = 32
    num_classes: int = 32
    head_width: int | None = None  # None: the backbone's width
    unimix: float = 0.01
    reward_decoding: Decoding = Decoding.symlog
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)


@dataclass
class ModelLossConfig:
    """Weights and bounds of the world-model loss (GLAM Eq. 7-12)."""

    first_valid: int = 3
    dynamics_coeff: float = 0.5
    representation_coeff: float = 0.1
    variation_coeff: float = 0.1
    free_nats: float = 1.0
    variation_target: VariationTarget = VariationTarget.logits
    variation_free_nats: float = 1.0
