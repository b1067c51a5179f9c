"""Steps of an episode as tokens: return-to-go, state and action, interleaved (Decision Transformer, arXiv 2106.01345).

``..`` any leading shape, ``b`` batch, ``t`` environment steps, ``o`` observation size, ``a`` action size, ``h w c``
pixels, ``d`` width. Statistics of the data are buffers here, so that a saved actor takes raw observations and returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrl.modules import ConvNet

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.autoencoders import preprocess_pixels

TOKENS_PER_STEP = 3

# The Atari encoder of DQN (Nature, 2015), which the Decision Transformer uses too.
CHANNELS, KERNELS, STRIDES = (32, 64, 64), (8, 4, 3), (4, 2, 1)
LEAST_SIDE = 36


def count_features(height: int, width: int) -> int:
    """Return the number of features that the convolutions make of an image.

    Examples:
        >>> from torchrl_glam.offline.tokens import count_features
        >>> count_features(84, 84)
        3136
    """
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        height, width = ((side - kernel) // stride + 1 for side in (height, width))
    return CHANNELS[-1] * height * width


class ObservationEncoder(nn.Module):
    """Observations to width ``d``: a linear layer for vectors, DQN's convolutions and a linear layer for pixels.

    Vectors are normalised by :attr:`mean` and :attr:`std` of the data, pixels divided by 255.

    Args:
        observation_shape: ``(o,)``, or ``(h, w, c)`` of uint8 pixels.
        width: ``d``.

    Raises:
        UsageError: if the shape is of neither kind, or pixels are too few for the convolutions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, observation_shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = torch.Size(observation_shape)
        self.is_pixels = len(self.shape) == 3
        if not self.is_pixels and len(self.shape) != 1:
            raise UsageError(f"observation_shape {tuple(self.shape)}: give (size,) of vectors or (h, w, c) of pixels")
        if self.is_pixels and min(self.shape[:2]) < LEAST_SIDE:
            raise UsageError(f"observation_shape {tuple(self.shape)}: give pixels at least {LEAST_SIDE} high and wide")
        features = self.shape[0]
        if self.is_pixels:
            features = count_features(*self.shape[:2])
            self.convolutions = ConvNet(
                self.shape[2],
                num_cells=list(CHANNELS),
                kernel_sizes=list(KERNELS),
                strides=list(STRIDES),
                activation_class=nn.ReLU,
            )
        else:
            self.register_buffer("mean", torch.zeros(features))
            self.register_buffer("std", torch.ones(features))
        self.linear = nn.Linear(features, width)

    def set_statistics(self, mean: Tensor | None, std: Tensor | None) -> None:
        """Take the data's mean and standard deviation ``[o]``; pixels ignore them.

        A feature that never changes (deviation below 1e-6) is only centred.

        Raises:
            UsageError: if their shapes are not that of an observation.
        """
        if self.is_pixels:
            return
        for name, value in (("mean", mean), ("std", std)):
            if value is None or value.shape != self.shape:
                came = None if value is None else list(value.shape)
                raise UsageError(f"{name} of observations is {came}: give a tensor {list(self.shape)}")
            self.get_buffer(name).copy_(value)
        self.std.masked_fill_(self.std < 1e-6, 1.0)

    def forward(self, observation: Tensor) -> Tensor:
        """Map ``observation [.. o]`` or ``[.. h w c]`` to ``[.. d]``."""
        dtype = self.linear.weight.dtype
        if not self.is_pixels:
            return self.linear((observation.to(dtype) - self.mean) / self.std)
        leading = observation.shape[:-3]
        features = self.convolutions(preprocess_pixels(observation.reshape(-1, *self.shape), dtype))
        return self.linear(features).reshape(*leading, -1)


class DecisionTokens(nn.Module):
    """Tokens ``R_t, s_t, a_t`` of each step, the embedding of the step's time added to all three.

    Each is embedded by itself, summed with the time, normalised (LayerNorm); dropout follows in training mode.

    Args:
        observation_shape: ``(o,)``, or ``(h, w, c)`` of uint8 pixels.
        action_size: ``a``; discrete actions are one-hot.
        width: ``d``.
        max_steps: time steps that have an embedding, the last one for all after it; 0: no time embedding.
        dropout: probability.

    Raises:
        UsageError: if ``max_steps`` is below 0, and as :class:`ObservationEncoder` does.

    Examples:
        >>> import torch
        >>> from torchrl_glam.offline.tokens import DecisionTokens
        >>> tokens = DecisionTokens((11,), action_size=3, width=32)
        >>> steps = torch.arange(5).reshape(1, 5, 1).expand(2, 5, 1)
        >>> tokens(torch.randn(2, 5, 11), torch.randn(2, 5, 3), torch.randn(2, 5, 1), steps).shape
        torch.Size([2, 15, 32])
    """

    return_scale: Tensor

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_size: int,
        width: int,
        *,
        max_steps: int = 4096,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if max_steps < 0:
            raise UsageError(f"max_steps={max_steps}: give 1 or more, or 0 for no time embedding")
        self.observation = ObservationEncoder(observation_shape, width)
        self.action = nn.Linear(action_size, width)
        self.return_to_go = nn.Linear(1, width)
        self.time = nn.Embedding(max_steps, width) if max_steps else None
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("return_scale", torch.ones(()))

    def set_statistics(self, mean: Tensor | None, std: Tensor | None, return_scale: float) -> None:
        """Take the observations' mean and standard deviation, and the divisor of returns.

        Raises:
            UsageError: if ``return_scale`` is not above 0, and as :class:`ObservationEncoder` does.
        """
        if not return_scale > 0:
            raise UsageError(f"return_scale={return_scale}: returns are divided by it, give a number above 0")
        self.observation.set_statistics(mean, std)
        self.return_scale.fill_(return_scale)

    def forward(self, observation: Tensor, action: Tensor, return_to_go: Tensor, time_step: Tensor) -> Tensor:
        """Map steps ``[b t ..]`` and their time ``[b t 1]`` to tokens ``[b 3t d]``."""
        pair = self.embed_observed(observation, return_to_go, time_step)
        tokens = torch.stack([*pair, self.embed_action(action, time_step)], -2)  # (b t, 3, d)
        return tokens.flatten(-3, -2)

    def embed_observed(self, observation: Tensor, return_to_go: Tensor, time_step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens ``R_t`` and ``s_t``, both ``[.. d]``: those known before the action."""
        scaled = return_to_go.to(self.return_scale.dtype) / self.return_scale
        embedded = self.return_to_go(scaled)
        return self._finish(embedded, time_step), self._finish(self.observation(observation), time_step)

    def embed_action(self, action: Tensor, time_step: Tensor) -> Tensor:
        """Return the token ``a_t [.. d]``."""
        return self._finish(self.action(action.to(self.action.weight.dtype)), time_step)

    def _finish(self, embedded: Tensor, time_step: Tensor) -> Tensor:
        if self.time is not None:
            embedded = embedded + self.time(time_step.squeeze(-1).long().clamp(0, self.time.num_embeddings - 1))
        return self.dropout(self.norm(embedded))
