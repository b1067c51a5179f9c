"""One formula per function, on plain tensors.

``b`` batch, ``t`` time, ``k c`` categoricals and classes, ``n`` imagination horizon; ``sg`` stops the gradient.
Distributions are log-probabilities ``[..., k, c]`` (see :mod:`torchrl_glam.modules.latent`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchrl.objectives import categorical_kl_terms


def at_least_float32(values: Tensor) -> Tensor:
    """``values``, of which autocast may have made less than float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def reconstruction_loss(reconstruction: Tensor, frames: Tensor) -> Tensor:
    """``mean_bt sum_pixels (x_hat - x)^2`` (GLAM Eq. 12, first term).

    Args:
        reconstruction: ``[b t channels h w]``, 0..1 scale.
        frames: ``[b t channels h w]``, 0..1 scale.
    """
    reconstruction = at_least_float32(reconstruction)
    return F.mse_loss(reconstruction, frames.to(reconstruction.dtype), reduction="sum") / frames.shape[:-3].numel()


def termination_loss(logits: Tensor, terminated: Tensor) -> Tensor:
    """``mean BCE(sigmoid(logits), terminated)``; ``terminated`` is bool of the same shape."""
    logits = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(logits, terminated.to(logits.dtype))


def balanced_kl(posterior: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """``KL(sg(q) || p)`` and ``KL(q || sg(p))`` in nats, summed over ``k``, averaged over the batch (not clamped).

    Args:
        posterior: log q ``[.. k c]``.
        prior: log p ``[.. k c]``.
    """
    return categorical_kl_terms(posterior, prior, free_nats=0.0, unimix=0.0)


def kl_to_target(target: Tensor, prediction: Tensor) -> Tensor:
    """``KL(sg(target) || prediction)`` in nats, summed over ``k``, averaged over the batch (GLAM Eq. 10, unclamped)."""
    return balanced_kl(target, prediction)[0]


def logit_variation(posterior: Tensor) -> Tensor:
    """``log softmax(l_{t+1} - l_t)`` of log q ``[b t k c]``: the variation's target, ``[b t-1 k c]``.

    Our reading of Eq. 10: then ``l_{t+1} = l_t + variation``, so LMamba predicts the state, GMamba its change, and the
    linear head adds them up in logit space.
    """
    return (posterior[:, 1:] - posterior[:, :-1]).log_softmax(-1)


def latent_variation(state: Tensor) -> Tensor:
    """``log softmax(z_{t+1} - z_t)`` of one-hot samples ``[b t k c]``: Eq. 10 taken literally, ``[b t-1 k c]``."""
    return (state[:, 1:] - state[:, :-1]).log_softmax(-1)


def released_next_value(value: Tensor, next_value: Tensor, lmbda: float) -> Tensor:
    """Return what the released code has in place of ``V_{t+1}`` in the lambda return: ``V_t``.

    ``G_t = r_t + gamma (1 - c_t) ((1 - lmbda) V_t + lmbda G_{t+1})``, ``G_n = V_n``. A TD(lambda) estimator bootstraps
    its last step with only the next value, so that the last entry is ``(1 - lmbda) V_{n-1} + lmbda V_n``.

    Args:
        value: V of the current states, ``[b n 1]``.
        next_value: V of the next states, ``[b n 1]``.
        lmbda: the return's lambda.
    """
    last = torch.lerp(value[:, -1:], next_value[:, -1:], lmbda)
    return torch.cat([value[:, :-1], last], 1)
