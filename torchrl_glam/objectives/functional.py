"""One formula per function, on plain tensors.

``b`` batch, ``t`` time, ``k c`` categoricals and classes, ``n`` imagination horizon; ``*b`` any leading shape. ``sg``
stops the gradient. Distributions are log-probabilities ``[*b k c]`` (see :mod:`torchrl_glam.modules.latent`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchrl.objectives import categorical_kl_terms


def at_least_float32(values: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Return the values in at least float32, where autocast may have given less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def reconstruction_loss(
    reconstruction: Float[Tensor, "b t *x"],
    frames: Float[Tensor, "b t *x"],
    weight: Float[Tensor, "b t *w"] | None = None,
) -> Float[Tensor, ""]:
    """Return ``mean_bt sum_pixels w (x_hat - x)^2`` (GLAM Eq. 12, first term, with ``w = 1``).

    Args:
        reconstruction: decoded frames, 0..1 scale; or vectors in symlog space.
        frames: the frames or vectors themselves.
        weight: ``w``, of a shape that broadcasts; 1 if not given. Other ones go beyond GLAM: without them a few pixels,
            such as a ball, are lost among thousands.
    """
    reconstruction, number = at_least_float32(reconstruction), frames.shape[:2].numel()
    frames = frames.to(reconstruction.dtype)
    if weight is None:
        return F.mse_loss(reconstruction, frames, reduction="sum") / number
    return _WeightedSquaredError.apply(reconstruction, frames, weight) / number


class _WeightedSquaredError(torch.autograd.Function):
    """``sum w (x_hat - x)^2``, differentiable once, by ``x_hat``.

    Frames do not fit a CPU's cache: each pass over them counts. Autograd's own way takes twice as many.
    """

    @staticmethod
    def forward(ctx: Any, reconstruction: Tensor, frames: Tensor, weight: Tensor) -> Tensor:
        difference = reconstruction - frames
        weighted = difference * weight
        ctx.save_for_backward(weighted)
        return (difference * weighted).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weighted,) = ctx.saved_tensors
        return weighted * (2.0 * gradient), None, None


def moving_pixels(frames: Float[Tensor, "b t channels h w"], threshold: float = 0.08) -> Bool[Tensor, "b t 1 h w"]:
    """Return the pixels that differ from the frame before or after by more than ``threshold`` in any channel.

    The first and the last frame have one neighbour each.
    """
    changed = changed_pixels(frames, threshold)
    return torch.cat([changed[:, :1], changed], 1) | torch.cat([changed, changed[:, -1:]], 1)


def foreground_pixels(
    frames: Float[Tensor, "b t channels h w"], background: Float[Tensor, "channels h w"], threshold: float = 0.08
) -> Bool[Tensor, "b t 1 h w"]:
    """Return the pixels that differ from the background by more than ``threshold`` in any channel."""
    return ((frames - background).abs() > threshold).any(2, keepdim=True)


def changed_pixels(frames: Float[Tensor, "b t channels h w"], threshold: float) -> Bool[Tensor, "b t-1 1 h w"]:
    """Return the pixels of each frame that the next one changes by more than ``threshold`` in any channel."""
    return ((frames[:, 1:] - frames[:, :-1]).abs() > threshold).any(2, keepdim=True)


def focal_loss(logits: Float[Tensor, "*b x"], labels: Bool[Tensor, "*b x"], focus: float = 2.0) -> Float[Tensor, ""]:
    """Return ``mean_b sum_x -(1 - p)^focus log p``, ``p`` being the probability given to the label.

    Source: "Focal loss for dense object detection" (arXiv 1708.02002, Eq. 4). What is predicted well already counts
    little, so that a few rare events are not lost among many cells where nothing happens.
    """
    logits = at_least_float32(logits)
    log_probability = F.logsigmoid(torch.where(labels, logits, -logits))
    return -((1.0 - log_probability.exp()) ** focus * log_probability).sum(-1).mean()


def termination_loss(logits: Float[Tensor, "*b"], terminated: Bool[Tensor, "*b"]) -> Float[Tensor, ""]:
    """Return ``mean BCE(sigmoid(logits), terminated)``."""
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, terminated.to(logits.dtype))


def balanced_kl(
    posterior: Float[Tensor, "*b k c"], prior: Float[Tensor, "*b k c"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return ``KL(sg(q) || p)`` and ``KL(q || sg(p))`` in nats, summed over ``k``, averaged over the batch.

    Neither is clamped.

    Args:
        posterior: log q.
        prior: log p.
    """
    return categorical_kl_terms(posterior, prior, free_nats=0.0, unimix=0.0)


def kl_to_target(target: Float[Tensor, "*b k c"], prediction: Float[Tensor, "*b k c"]) -> Float[Tensor, ""]:
    """Return ``KL(sg(target) || prediction)`` in nats, as in :func:`balanced_kl` (GLAM Eq. 10, not clamped)."""
    return balanced_kl(target, prediction)[0]


def logit_variation(posterior: Float[Tensor, "b t k c"]) -> Float[Tensor, "b t-1 k c"]:
    """Return ``log softmax(l_{t+1} - l_t)`` of log q, the target of the variation.

    Our reading of Eq. 10: then ``l_{t+1} = l_t + variation``, so LMamba predicts the state, GMamba its change, and the
    linear head adds them up in logit space.
    """
    return (posterior[:, 1:] - posterior[:, :-1]).log_softmax(-1)


def latent_variation(state: Float[Tensor, "b t k c"]) -> Float[Tensor, "b t-1 k c"]:
    """Return ``log softmax(z_{t+1} - z_t)`` of one-hot samples: Eq. 10 taken literally."""
    return (state[:, 1:] - state[:, :-1]).log_softmax(-1)


def released_next_value(
    value: Float[Tensor, "b n 1"], next_value: Float[Tensor, "b n 1"], lmbda: float
) -> Float[Tensor, "b n 1"]:
    """Return the released code's replacement of ``V_{t+1}`` in the lambda return, which is ``V_t``.

    ``G_t = r_t + gamma (1 - c_t) ((1 - lmbda) V_t + lmbda G_{t+1})``, ``G_n = V_n``. A TD(lambda) estimator bootstraps
    its last step with only the next value, so the last entry is ``(1 - lmbda) V_{n-1} + lmbda V_n``.

    Args:
        value: V of the current states.
        next_value: V of the next states.
        lmbda: lambda of the return.
    """
    last = torch.lerp(value[:, -1:], next_value[:, -1:], lmbda)
    return torch.cat([value[:, :-1], last], 1)
