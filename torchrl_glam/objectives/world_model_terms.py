"""The terms of the world-model loss (GLAM Eq. 12): each compares an output of the world model with its target.

``b`` batch, ``t`` time, ``d`` width, ``k c`` categoricals and classes, ``f`` CNN features; ``sg`` stops the gradient.
Outputs at ``t`` belong to the reward and the termination that follow ``a_t``, and to the latent ``z_{t+1}``.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.heads import CategoricalHead
from torchrl_glam.modules.latent import categorical_entropy, unimix_logits
from torchrl_glam.modules.world_model import GLAMWorldModel
from torchrl_glam.objectives import functional as formulas
from torchrl_glam.objectives.term import Term

VARIATION_TARGETS = ("logits", "latent", "features")


class RewardTerm(Term):
    """The reward head's own loss: two-hot cross-entropy in symlog space."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(reward=weight)

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        return {
            "reward": world_model.reward_head.loss(outputs["reward_logits"][:, first:], targets["reward"][:, first:])
        }


class TerminationTerm(Term):
    """Binary cross-entropy of the end of an episode or a life."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(termination=weight)

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        logits = outputs["termination_logits"][:, first:]
        return {"termination": formulas.termination_loss(logits, targets["termination"][:, first:])}


class LatentTerm(Term):
    """Dynamics ``max(free_nats, KL(sg(q) || p))`` and representation ``max(free_nats, KL(q || sg(p)))``.

    ``q`` is the posterior of ``z_{t+1}``, ``p`` the prior from ``h_t``. KLs are summed over the categoricals, averaged
    over the batch, then clamped.

    Args:
        dynamics, representation: weights.
        free_nats: lower bound of both.
    """

    metrics = ("kl_dynamics", "posterior_entropy", "prior_entropy")

    def __init__(self, dynamics: float = 0.5, representation: float = 0.1, free_nats: float = 1.0) -> None:
        super().__init__(dynamics=dynamics, representation=representation)
        self.free_nats = free_nats

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        posterior, prior = outputs["posterior_logits"][:, first + 1 :], outputs["prior_logits"][:, first:-1]
        posterior, prior = _within_episodes(outputs, first, posterior, prior)
        dynamics, representation = formulas.balanced_kl(posterior, prior)
        return {
            "kl_dynamics": dynamics,
            "posterior_entropy": categorical_entropy(posterior.detach()).mean(),
            "prior_entropy": categorical_entropy(prior.detach()).mean(),
            "dynamics": dynamics.clamp_min(self.free_nats),
            "representation": representation.clamp_min(self.free_nats),
        }


class VariationTerm(Term):
    """Variation (Eq. 10): ``max(free_nats, KL(sg(Delta_t) || g(u^g_t)))``, ``g`` being the prior head.

    Args:
        weight: of the term.
        target: ``logits`` (softmax of the posterior's logit difference) or ``latent`` (softmax of the one-hot
            difference).
        free_nats: lower bound.
    """

    metrics = ("kl_variation",)

    def __init__(self, weight: float = 0.1, target: str = "logits", free_nats: float = 1.0) -> None:
        super().__init__(variation=weight)
        self.target, self.free_nats = target, free_nats

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        target, head = self.compare(world_model, outputs)
        target, predicted = target[:, first:], head(outputs["variation"][:, first:-1])
        kl = formulas.kl_to_target(*_within_episodes(outputs, first, target, predicted))
        return {"kl_variation": kl, "variation": kl.clamp_min(self.free_nats)}

    def compare(self, world_model: GLAMWorldModel, outputs: TensorDictBase) -> tuple[Tensor, nn.Module]:
        """Return the target's log-probabilities ``[b t-1 k c]``, and the head whose prediction is compared with it."""
        if self.target == "logits":
            return formulas.logit_variation(outputs["posterior_logits"]), world_model.prior_head
        state = outputs["state"].unflatten(-1, world_model.latent_shape)
        return formulas.latent_variation(state), world_model.prior_head


class FeatureVariationTerm(VariationTerm):
    """The released code's variation: a head of its own against a fixed random map of the CNN-feature difference.

    Args:
        world_model: supplies the sizes.
        weight, free_nats: as for :class:`VariationTerm`.
    """

    def __init__(self, world_model: GLAMWorldModel, weight: float = 0.1, free_nats: float = 1.0) -> None:
        super().__init__(weight, "features", free_nats)
        (num_categoricals, num_classes), unimix = world_model.latent_shape, world_model.prior_head.unimix
        self.head = CategoricalHead(world_model.dynamics.width, num_categoricals, num_classes, unimix)
        features = world_model.encoder.num_features
        self.feature_map = nn.Linear(features, num_categoricals * num_classes).requires_grad_(False)

    def compare(self, world_model: GLAMWorldModel, outputs: TensorDictBase) -> tuple[Tensor, nn.Module]:
        """See :meth:`VariationTerm.compare`; 1 % unimix on target and prediction."""
        features = outputs["features"]
        mapped = self.feature_map(features[:, 1:] - features[:, :-1])
        return unimix_logits(mapped.unflatten(-1, self.head.latent_shape), self.head.unimix), self.head


class EventTerm(Term):
    """Events: a layer of its own predicts from ``h_t`` which cells of the next frame change; focal loss.

    This goes beyond GLAM, after "Event-aware world models" (EAWM, ICLR 2026). A cell changes where any of its pixels
    does (:func:`~torchrl_glam.objectives.functional.changed_pixels`).

    Args:
        world_model: supplies the sizes.
        weight: of the term.
        threshold: of a change.
        cell: side of a cell in pixels.
    """

    def __init__(self, world_model: GLAMWorldModel, weight: float, threshold: float = 0.08, cell: int = 4) -> None:
        super().__init__(event=weight)
        self.threshold, self.cell = threshold, cell
        if world_model.image_shape is None:
            raise UsageError(f"event_coeff is {weight}, and no pixels are observed: leave it out")
        height, width = (-(-side // cell) for side in world_model.image_shape[:2])
        self.head = nn.Linear(world_model.dynamics.width, height * width)

    def forward(
        self, world_model: GLAMWorldModel, outputs: TensorDictBase, targets: TensorDictBase, first: int
    ) -> dict[str, Tensor]:
        """See :class:`Term`."""
        frames = outputs["frames"] if isinstance(outputs["frames"], Tensor) else outputs["frames", "pixels"]
        changed = formulas.changed_pixels(frames[:, first:], self.threshold)
        cells = F.max_pool2d(changed.flatten(0, 2).to(torch.float32), self.cell, ceil_mode=True).flatten(-2)
        logits = self.head(outputs["belief"][:, first:-1])
        return {"event": formulas.focal_loss(logits, cells.reshape(logits.shape) > 0)}


def _within_episodes(outputs: TensorDictBase, first: int, target: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Set predictions of the first step of a new episode, which none can know, to their targets, without a gradient.

    Only for a world model that marks such steps. ``target`` and ``predicted`` are ``[b t-1-first k c]``.
    """
    begins = outputs.get("is_init", None)
    if begins is None:
        return target, predicted
    begins = begins[:, first + 1 :, :, None]
    known = target.detach()
    return torch.where(begins, known, target), torch.where(begins, known, predicted)


def make_variation_term(world_model: GLAMWorldModel, weight: float, target: str, free_nats: float) -> VariationTerm:
    """Make the variation term for one of :data:`VARIATION_TARGETS`.

    Raises:
        UsageError: if ``target`` is none of them, or the encoder has no CNN features for it.
    """
    if target not in VARIATION_TARGETS:
        raise UsageError(f"variation_target is {target!r}: choose one of {', '.join(VARIATION_TARGETS)}")
    if target == "features" and not hasattr(world_model.encoder, "num_features"):
        raise UsageError(f"variation_target=features: {type(world_model.encoder).__name__} has no num_features")
    if target == "features":
        return FeatureVariationTerm(world_model, weight, free_nats)
    return VariationTerm(weight, target, free_nats)


def total_loss(terms: TensorDictBase) -> Tensor:
    """Return the sum of the entries of a loss module's output whose name begins with ``loss_``."""
    return torch.stack([value for key, value in terms.items() if key.startswith("loss_")]).sum()
