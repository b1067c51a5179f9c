"""Vectors, such as joint angles, to latent logits and back: symlog and an MLP (DreamerV3, arXiv 2301.04104).

``b`` any leading shape, ``n`` numbers of a vector, ``kc`` width of the flattened latent, ``f`` features.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torchrl.modules import symexp, symlog

from torchrl_glam.modules.autoencoders.base import Encoder


def make_mlp(inputs: int, hidden: int, num_layers: int) -> nn.Sequential:
    """Make ``num_layers`` of Linear, LayerNorm, ReLU.

    With biases: LayerNorm after a product alone would make ``x`` and ``2 x`` one.
    """
    layers: list[nn.Module] = []
    for size, outputs in pairwise([inputs, *[hidden] * num_layers]):
        layers += [nn.Linear(size, outputs), nn.LayerNorm(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class VectorEncoder(Encoder):
    """Encoder q(z | x) of a vector.

    Args:
        vector_size: ``n``.
        num_categoricals: ``k``.
        num_classes: ``c``.
        unimix: uniform share of each categorical.
        hidden: width of the MLP.
        num_layers: of the MLP.
    """

    in_keys = ("observation",)

    def __init__(
        self,
        vector_size: int,
        num_categoricals: int = 32,
        num_classes: int = 32,
        unimix: float = 0.01,
        hidden: int = 256,
        num_layers: int = 2,
    ) -> None:
        super().__init__(num_categoricals, num_classes, unimix)
        self.layers = make_mlp(vector_size, hidden, num_layers)
        self.add_head(hidden)

    def preprocess(self, observation: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Return the vector in symlog space."""
        return symlog(observation.to(self.head.weight.dtype))

    def postprocess(self, frames: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        """Return the vector in raw units."""
        return symexp(frames)

    def extract(
        self, frames: Float[Tensor, "*b n"], previous: Float[Tensor, "*b n"] | None = None
    ) -> tuple[Float[Tensor, "*b f"], Float[Tensor, "*b kc"]]:
        """See :class:`~torchrl_glam.modules.autoencoders.base.Encoder`."""
        features = self.layers(frames)
        return features, self.head(features)


class VectorDecoder(nn.Module):
    """Mirror of :class:`VectorEncoder`, from latent sample to the vector in symlog space.

    Args:
        vector_size: ``n``.
        state_size: width of the flattened latent, ``k * c``.
        hidden: width of the MLP.
        num_layers: of the MLP.
    """

    def __init__(self, vector_size: int, state_size: int = 1024, hidden: int = 256, num_layers: int = 2) -> None:
        super().__init__()
        self.layers = make_mlp(state_size, hidden, num_layers)
        self.head = nn.Linear(hidden, vector_size)

    def forward(self, state: Float[Tensor, "*b kc"]) -> Float[Tensor, "*b n"]:
        """Decode to the vector, in symlog space."""
        return self.head(self.layers(state))
