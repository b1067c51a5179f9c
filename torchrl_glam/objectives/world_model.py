"""The world model's loss (GLAM Eq. 12): a list of terms over one pass of the world model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tensordict import TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.objectives import LossModule

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.context import first_steps
from torchrl_glam.modules.world_model import GLAMWorldModel
from torchrl_glam.objectives.batch import check_keys, check_padding
from torchrl_glam.objectives.reconstruction_terms import make_reconstruction_terms
from torchrl_glam.objectives.term import Term
from torchrl_glam.objectives.unroll_term import UnrollTerm
from torchrl_glam.objectives.world_model_terms import (
    EventTerm,
    LatentTerm,
    RewardTerm,
    TerminationTerm,
    make_variation_term,
)

VARIATION_COEFF = 0.1


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
        dynamics_coeff, representation_coeff: weights; a loss of weight 0 is left out.
        variation_coeff: weight; 0.1 if not given and the backbone has a variation branch, else 0.
        free_nats: lower bound of the dynamics and representation KL.
        variation_target: ``logits`` (softmax of the posterior's logit difference, shared head), ``latent`` (softmax of
            the one-hot difference, shared head) or ``features`` (the released code's; see
            :class:`~torchrl_glam.objectives.world_model_terms.FeatureVariationTerm`).
        variation_free_nats: lower bound of the variation KL.
        motion_weight: pixels that move weigh ``1 + motion_weight`` in the reconstruction; 0 is the paper's Eq. 12.
        foreground_weight: pixels that differ from the background, the mean of what was trained on, weigh
            ``1 + foreground_weight``; 0 is the paper's Eq. 12
            (:class:`~torchrl_glam.objectives.reconstruction_terms.WeightedReconstructionTerm`).
        motion_threshold: change that counts as motion, or as no background, 0..1 scale.
        event_coeff: weight of the prediction which cells of the next frame change; 0 leaves it out, as GLAM does
            (:class:`~torchrl_glam.objectives.world_model_terms.EventTerm`).
        unroll_steps: latents at the end of each sequence that are imagined besides, one from the other, and compared
            with what came; 0 leaves it out, as GLAM does (:class:`~torchrl_glam.objectives.unroll_term.UnrollTerm`).
        more_terms: further terms, see :class:`~torchrl_glam.objectives.term.Term`.

    Raises:
        UsageError: at construction, if ``world_model`` is none, ``variation_target`` is unknown, or the backbone has no
            variation for the variation term; in ``forward``, if the sequence is too short, padded or lacks a key.

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
            pixels: uint8 frames ``[b t h w channels]``, if the world model reads them.
            observation: vectors ``[b t n]``, if the world model reads them.
            action: actions ``[b t a]``.
            reward: read from ``("next", reward)``, ``[b t 1]``.
            termination: read from ``("next", termination)``, bool ``[b t 1]``; a lost life by default.
            done: read from ``("next", done)``, bool ``[b t 1]``, by a world model that marks episodes' starts.
        """

        pixels: NestedKey = "pixels"
        observation: NestedKey = "observation"
        action: NestedKey = "action"
        reward: NestedKey = "reward"
        termination: NestedKey = "life_loss"
        done: NestedKey = "done"

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
        variation_coeff: float | None = None,
        free_nats: float = 1.0,
        variation_target: str = "logits",
        variation_free_nats: float = 1.0,
        motion_weight: float = 0.0,
        foreground_weight: float = 0.0,
        motion_threshold: float = 0.08,
        event_coeff: float = 0.0,
        unroll_steps: int = 0,
        more_terms: Sequence[Term] = (),
    ) -> None:
        super().__init__()
        if not all(hasattr(world_model, part) for part in ("dynamics", "prior_head", "reward_head")):
            raise UsageError(f"the world model is a {type(world_model).__name__}: give a GLAMWorldModel")
        self.world_model = world_model
        self.first_valid = first_valid
        if variation_coeff is None:
            variation_coeff = VARIATION_COEFF if world_model.dynamics.has_variation else 0.0
        if variation_coeff and not world_model.dynamics.has_variation:
            raise UsageError(
                f"{type(world_model.dynamics).__name__} has no variation branch for the variation loss: leave "
                "variation_coeff out, or set it to 0 (model_loss.variation_coeff=0 on the command line)"
            )
        terms: list[Term] = make_reconstruction_terms(world_model, motion_weight, foreground_weight, motion_threshold)
        terms += [RewardTerm(), TerminationTerm(), LatentTerm(dynamics_coeff, representation_coeff, free_nats)]
        if variation_coeff:
            terms.append(make_variation_term(world_model, variation_coeff, variation_target, variation_free_nats))
        if event_coeff:
            terms.append(EventTerm(world_model, event_coeff, motion_threshold))
        if unroll_steps:
            terms.append(UnrollTerm(unroll_steps, dynamics_coeff))
        self._terms = nn.ModuleList([*terms, *more_terms])
        losses = [f"loss_{name}" for term in self.terms for name in term.weights]
        self.out_keys = [*losses, *(name for term in self.terms for name in term.metrics)]

    @property
    def terms(self) -> Sequence[Term]:
        """The loss's terms."""
        return cast(Sequence[Term], self._terms)

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys that ``forward`` reads."""
        keys = self.tensor_keys
        outcome = [("next", keys.reward), ("next", keys.termination)]
        outcome += [("next", keys.done)] if self.world_model.marks_starts else []
        return [*self._observed().values(), keys.action, *map(unravel_key, outcome)]

    def _observed(self) -> dict[str, NestedKey]:
        """Return where the entries that the world model reads lie."""
        return {key: getattr(self.tensor_keys, key, key) for key in self.world_model.observation_keys}

    @property
    def functional(self) -> bool:
        """False: the parameters are not kept apart from the module, the world model is used as it is."""
        return False

    def reset_parameters_recursive(self) -> None:
        """Draw all parameters anew. (TorchRL's method looks only for functional networks, and there are none.)"""
        TensorDictModuleBase.reset_parameters_recursive(self)

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        """No value estimator."""

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the weighted terms and detached metrics, all scalars, for ``tensordict [b t]``."""
        return self.forward_with_latents(tensordict)[0]

    def forward_with_latents(self, tensordict: TensorDictBase) -> tuple[TensorDict, TensorDict]:
        """Return what ``forward`` does, and detached what the agent can use of the batch without encoding it again.

        That is ``[b t]``: ``state`` (the posterior sample), ``belief``, ``action``, ``reward`` and ``terminated``; and
        ``is_init`` if the world model marks episodes' starts.
        """
        keys = self.tensor_keys
        if tensordict.ndim != 2 or tensordict.shape[1] < self.first_valid + 2:
            raise UsageError(
                f"the batch has shape {tuple(tensordict.shape)}: GLAMModelLoss wants [b t] with t of at least "
                f"{self.first_valid + 2}; sample longer sequences"
            )
        check_keys(self, tensordict)
        check_padding(self, tensordict)
        self._check_shapes(tensordict)
        inputs = {name: tensordict.get(key) for name, key in self._observed().items()}
        inputs["action"] = tensordict.get(keys.action)
        if self.world_model.marks_starts:
            inputs["is_init"] = first_steps(tensordict.get(("next", keys.done)))
        outputs = self.world_model(TensorDict(inputs, batch_size=tensordict.shape))
        targets = TensorDict(
            {name: tensordict.get(("next", getattr(keys, name))) for name in ("reward", "termination")},
            batch_size=tensordict.shape,
        )
        terms: dict[str, Tensor] = {}
        for term in self.terms:
            terms |= term(self.world_model, outputs, targets, self.first_valid)
        latents = {key: outputs[key].detach() for key in ("state", "belief")}
        latents |= {"action": inputs["action"], "reward": targets["reward"], "terminated": targets["termination"]}
        latents |= {key: inputs[key] for key in ("is_init",) if key in inputs}
        return TensorDict(terms, batch_size=[]), TensorDict(latents, batch_size=tensordict.shape)

    def _check_shapes(self, tensordict: TensorDictBase) -> None:
        """Raise UsageError for an entry that has another shape."""
        observed = {"pixels": "[b t h w channels]", "observation": "[b t n]"}
        shapes = [(key, observed[name]) for name, key in self._observed().items() if name in observed]
        action, *outcome = self.in_keys[len(self._observed()) :]
        for key, wanted in [*shapes, (action, "[b t a]"), *((key, "[b t 1]") for key in outcome)]:
            shape = tuple(tensordict.get(key).shape)
            if len(shape) != len(wanted.split()) or (wanted == "[b t 1]" and shape[-1] != 1):
                raise UsageError(f"{key} has shape {shape}: GLAMModelLoss wants {wanted}")
