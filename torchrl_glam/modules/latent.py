"""The categorical latent: pure functions on logits.

``b`` any leading shape, ``k`` categoricals of ``c`` classes each. Log-probabilities that already hold the uniform share
("unimixed") are themselves valid logits (``softmax(log p) = p``), so every distribution is one tensor ``[b k c]``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torchrl_glam.errors import UsageError


def unimix_logits(logits: Float[Tensor, "*b c"], unimix: float = 0.01) -> Float[Tensor, "*b c"]:
    """Mix a uniform share into each categorical: ``log((1 - unimix) softmax(logits) + unimix / c)``.

    Args:
        logits: any real numbers. The mixture is computed in at least float32.
        unimix: share of the uniform distribution, in [0, 1]. 0 gives the plain log-softmax.

    Returns:
        Log-probabilities.

    Raises:
        UsageError: if ``unimix`` is outside [0, 1].

    Source: DreamerV3 (arXiv 2301.04104), used by STORM and GLAM with 1 %.
    """
    if not 0.0 <= unimix <= 1.0:
        raise UsageError(f"unimix={unimix}: a share of the uniform distribution lies in [0, 1]")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if unimix == 0.0:
        return logits.log_softmax(-1, dtype=dtype)
    probabilities = logits.softmax(-1, dtype=dtype)
    return probabilities.mul(1.0 - unimix).add(unimix / logits.shape[-1]).log()


def sample_one_hot(log_probabilities: Float[Tensor, "*b c"], temperature: float = 1.0) -> Float[Tensor, "*b c"]:
    """Draw a one-hot sample whose gradient is that of the probabilities (straight-through).

    ``z = onehot(i) + p - stop_gradient(p)`` with ``i ~ Categorical(p)``, drawn by inverting the cumulative sum. That
    takes one uniform number per categorical; a race of exponentials takes ``c`` of them (15 % of an imagined step on a
    CPU). Nothing here synchronises a GPU with the host.

    A plain function, not a ``ProbabilisticTensorDictModule``: torchrl 0.14.1 runs ``LossModule.forward`` under
    deterministic exploration, where such a module would silently return the argmax.

    Args:
        log_probabilities: not necessarily normalised.
        temperature: draw from ``p^(1 / temperature)``, normalised; close to 0 that is the most likely class.

    Returns:
        One-hot sample in the dtype of the input.
    """
    if temperature != 1.0:
        log_probabilities = log_probabilities / temperature
    probabilities = log_probabilities.softmax(-1)
    cumulative = probabilities.detach().cumsum(-1)
    threshold = torch.rand_like(cumulative[..., :1]) * cumulative[..., -1:]
    index = (cumulative <= threshold).sum(-1, keepdim=True).clamp_max(cumulative.shape[-1] - 1)  # rounding may give c
    one_hot = (index == torch.arange(cumulative.shape[-1], device=index.device)).to(probabilities.dtype)
    if not probabilities.requires_grad:
        return one_hot
    return one_hot + (probabilities - probabilities.detach())


def categorical_entropy(log_probabilities: Float[Tensor, "*b k c"]) -> Float[Tensor, "*b"]:
    """Return the entropy in nats, summed over the ``k`` categoricals."""
    return -(log_probabilities.exp() * log_probabilities).sum((-1, -2))
