"""The world model's loss (GLAM Eq. 12), and the two-headed reading of its variation term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.heads import CategoricalHead
from torchrl_glam.modules.latent import categorical_entropy, unimix_logits
from torchrl_glam.modules.world_model import GLAMWorldModel
from torchrl_glam.objectives import functional as formulas
from torchrl_glam.objectives.batch import check_keys, check_padding

VARIATION_TARGETS = ("logits", "latent", "features")


class FeatureVariation(nn.Module):
    """The released code's variation: an own head against a fixed random map of the CNN-feature difference.

    Args:
        num_features: ``f``, width of the encoder's features.
        width: ``d``, width of the belief.
        num_categoricals, num_classes: ``k`` and ``c``.
        unimix: uniform share of target and prediction.
    """

    def __init__(
        self, num_features: int, width: int, num_categoricals: int, num_classes: int, unimix: float = 0.01
    ) -> None:
        super().__init__()
        self.head = CategoricalHead(width, num_categoricals, num_classes, unimix)
        self.feature_map = nn.Linear(num_features, num_categoricals * num_classes).requires_grad_(False)

    def target(self, features: Tensor) -> Tensor:
        """``features [b t f]`` to log-probabilities ``[b t-1 k c]``."""
        mapped = self.feature_map(features[:, 1:] - features[:, :-1])
        return unimix_logits(mapped.unflatten(-1, self.head.latent_shape), self.head.unimix)


class GLAMModelLoss(LossModule):
    """World-model loss: reconstruction, reward, termination, dynamics, representation and variation terms (Eq. 12).

    With ``q_t`` the posterior, ``p_{t+1}`` the prior from ``h_t`` and ``g`` the prior head,

    * dynamics: ``max(free_nats, KL(sg(q_{t+1}) || p_{t+1}))``;
    * representation: ``max(free_nats, KL(q_{t+1} || sg(p_{t+1})))``;
    * variation (Eq. 10): ``max(variation_free_nats, KL(sg(Delta_t) || g(u^g_t)))``.

    KLs are summed over the categoricals, averaged over the batch, then clamped. Terms that come from the belief start
    at ``first_valid``. Latents are sampled by a plain function, so that TorchRL's deterministic exploration inside a
    loss does not turn them into argmaxes.

    Args:
        world_model: the model to train.
        first_valid: first ``t`` whose belief counts: the first full window, 3 (the released code starts at 4).
        dynamics_coeff, representation_coeff, variation_coeff: weights; a term of weight 0 is not computed.
        free_nats: lower bound of the dynamics and representation KL.
        variation_target: ``logits`` (softmax of the posterior's logit difference, shared head), ``latent`` (softmax of
            the one-hot difference, shared head) or ``features`` (the released code's; see :class:`FeatureVariation`).
        variation_free_nats: lower bound of the variation KL.
        keep_state: write the posterior sample into the batch, detached, ``state [b t k*c]``: imagination starts there.

    Raises:
        UsageError: at construction, if ``world_model`` is none or ``variation_target`` is unknown; in ``forward``, if
            the sequence is too short, padded or lacks a key, or the backbone has no variation for the variation term.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl_glam.modules import GLAMWorldModel
        >>> from torchrl_glam.objectives import GLAMModelLoss
        >>> loss = GLAMModelLoss(GLAMWorldModel(action_size=6))
        >>> batch = TensorDict({
        ...     "pixels": torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8),
        ...     "action": torch.zeros(2, 8, 6),
        ...     ("next", "reward"): torch.zeros(2, 8, 1),
        ...     ("next", "life_loss"): torch.zeros(2, 8, 1, dtype=torch.bool),
        ... }, [2, 8])
        >>> terms = loss(batch)
        >>> sum(value for key, value in terms.items() if key.startswith("loss_")).backward()
    """

    @dataclass
    class _AcceptedKeys:
        """Configurable keys.

        Attributes:
            pixels: uint8 frames ``[b t h w channels]``.
            action: actions ``[b t a]``.
            reward: read from ``("next", reward)``, ``[b t 1]``.
            termination: read from ``("next", termination)``, bool ``[b t 1]``; a lost life by default.
            state: where ``keep_state`` writes, ``[b t k*c]``.
        """

        pixels: NestedKey = "pixels"
        action: NestedKey = "action"
        reward: NestedKey = "reward"
        termination: NestedKey = "life_loss"
        state: NestedKey = "state"

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    world_model: GLAMWorldModel

    def __init__(
        self,
        world_model: GLAMWorldModel,
        *,
        first_valid: int = 3,
        dynamics_coeff: float = 0.5,
        representation_coeff: float = 0.1,
        variation_coeff: float = 0.1,
        free_nats: float = 1.0,
        variation_target: str = "logits",
        variation_free_nats: float = 1.0,
        keep_state: bool = False,
    ) -> None:
        super().__init__()
        if not all(hasattr(world_model, part) for part in ("dynamics", "prior_head", "reward_head")):
            raise UsageError(f"the world model is a {type(world_model).__name__}: give a GLAMWorldModel")
        if variation_target not in VARIATION_TARGETS:
            raise UsageError(f"variation_target is {variation_target!r}: choose one of {', '.join(VARIATION_TARGETS)}")
        self.world_model = world_model
        self.first_valid = first_valid
        self.dynamics_coeff = dynamics_coeff
        self.representation_coeff = representation_coeff
        self.variation_coeff = variation_coeff
        self.free_nats = free_nats
        self.variation_target = variation_target
        self.variation_free_nats = variation_free_nats
        self.keep_state = keep_state
        optional = {"dynamics": dynamics_coeff, "representation": representation_coeff, "variation": variation_coeff}
        terms = ["reconstruction", "reward", "termination", *(name for name, weight in optional.items() if weight)]
        metrics = ["kl_dynamics", "posterior_entropy", "prior_entropy", *(["kl_variation"] if variation_coeff else [])]
        self.out_keys = [*(f"loss_{name}" for name in terms), *metrics]
        if variation_target == "features":
            encoder, head = world_model.encoder, world_model.prior_head
            self.feature_variation = FeatureVariation(
                encoder.num_features, world_model.dynamics.width, *head.latent_shape, head.unimix
            )

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys that ``forward`` reads."""
        keys = self.tensor_keys
        outcome = (("next", keys.reward), ("next", keys.termination))
        return [keys.pixels, keys.action, *map(unravel_key, outcome)]

    @property
    def functional(self) -> bool:
        """Whether the parameters are kept apart from the module: no, the world model is used as it is."""
        return False

    def reset_parameters_recursive(self) -> None:
        """Draw all parameters anew. (TorchRL's method looks for functional networks alone, and there are none.)"""
        TensorDictModuleBase.reset_parameters_recursive(self)

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        """No value estimator."""

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the weighted terms and detached metrics, all scalars, for ``tensordict [b t]``."""
        keys = self.tensor_keys
        if tensordict.ndim != 2 or tensordict.shape[1] < self.first_valid + 2:
            raise UsageError(
                f"the batch has shape {tuple(tensordict.shape)}: GLAMModelLoss wants [b t] with t of at least "
                f"{self.first_valid + 2}; sample longer sequences"
            )
        check_keys(self, tensordict)
        check_padding(self, tensordict)
        self._check_shapes(tensordict)
        pixels = tensordict.get(keys.pixels)
        inputs = {"pixels": pixels, "action": tensordict.get(keys.action)}
        outputs = self.world_model(TensorDict(inputs, batch_size=tensordict.shape))
        if self.keep_state:
            tensordict.set(keys.state, outputs["state"].detach())

        # Decoder: every frame.
        terms = {"loss_reconstruction": formulas.reconstruction_loss(outputs["reconstruction"], pixels)}

        # Outcome of a_t, from h_t.
        valid = slice(self.first_valid, None)
        reward = tensordict.get(("next", keys.reward))[:, valid]
        self.world_model.reward_head.observe(reward)
        bins = self.world_model.reward_head.bins
        terms["loss_reward"] = formulas.symlog_two_hot_loss(outputs["reward_logits"][:, valid], reward, bins)
        terminated = tensordict.get(("next", keys.termination))[:, valid]
        terms["loss_termination"] = formulas.termination_loss(outputs["termination_logits"][:, valid], terminated)

        # The next latent, from h_t.
        terms.update(self._kl_terms(outputs))
        if self.variation_coeff:
            terms.update(self._variation_terms(outputs))
        return TensorDict(terms, batch_size=[])

    def _check_shapes(self, tensordict: TensorDictBase) -> None:
        """Raise UsageError for an entry that has another shape."""
        for key, wanted in zip(self.in_keys, ("[b t h w channels]", "[b t a]", "[b t 1]", "[b t 1]"), strict=True):
            shape = tuple(tensordict.get(key).shape)
            if len(shape) != len(wanted.split()) or (wanted == "[b t 1]" and shape[-1] != 1):
                raise UsageError(f"{key} has shape {shape}: GLAMModelLoss wants {wanted}")

    def _kl_terms(self, outputs: TensorDictBase) -> dict[str, Tensor]:
        """Dynamics and representation: the posterior of z_{t+1} against the prior from h_t."""
        posterior = outputs["posterior_logits"][:, self.first_valid + 1 :]
        prior = outputs["prior_logits"][:, self.first_valid : -1]
        dynamics, representation = formulas.balanced_kl(posterior, prior)
        metrics = {
            "kl_dynamics": dynamics.detach(),
            "posterior_entropy": categorical_entropy(posterior.detach()).mean(),
            "prior_entropy": categorical_entropy(prior.detach()).mean(),
        }
        if self.dynamics_coeff:
            metrics["loss_dynamics"] = self.dynamics_coeff * dynamics.clamp_min(self.free_nats)
        if self.representation_coeff:
            metrics["loss_representation"] = self.representation_coeff * representation.clamp_min(self.free_nats)
        return metrics

    def _variation_terms(self, outputs: TensorDictBase) -> dict[str, Tensor]:
        """Variation: the change from z_t to z_{t+1} against the prediction from u^g_t."""
        variation = outputs.get("variation", None)
        if variation is None:
            name = type(self.world_model.dynamics).__name__
            advice = "set variation_coeff=0 (model_loss.variation_coeff=0 on the command line)"
            raise UsageError(f"{name} has no variation branch for the variation loss: {advice}")
        valid = slice(self.first_valid, -1)
        if self.variation_target == "features":
            target, head = self.feature_variation.target(outputs["features"]), self.feature_variation.head
        else:
            head = self.world_model.prior_head
            if self.variation_target == "logits":
                target = formulas.logit_variation(outputs["posterior_logits"])
            else:
                target = formulas.latent_variation(outputs["state"].unflatten(-1, self.world_model.latent_shape))
        kl = formulas.kl_to_target(target[:, self.first_valid :], head(variation[:, valid]))
        loss = self.variation_coeff * kl.clamp_min(self.variation_free_nats)
        return {"kl_variation": kl.detach(), "loss_variation": loss}


def total_loss(terms: TensorDictBase) -> Tensor:
    """Sum of the entries of a loss module's output whose name begins with ``loss_``."""
    return torch.stack([value for key, value in terms.items() if key.startswith("loss_")]).sum()
