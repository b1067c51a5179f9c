"""GLAM's world model: encoder, latent, sequence backbone and heads, parallel over time.

``b`` batch, ``t`` time, ``k c`` categoricals and classes, ``kc`` both flattened, ``d`` width, ``a`` width of an action;
``*b`` any leading shape.

Alignment (the one place that defines it): token ``e_t = f(z_t, a_t)``; belief ``h_t`` knows tokens up to ``t``; from
``h_t`` the heads predict the reward and termination that follow ``a_t``, and the next latent ``z_{t+1}``. So outputs at
``t`` are matched with ``("next", "reward")_t``, ``("next", termination)_t`` and the posterior at ``t + 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torch import Tensor, nn
from torchrl.modules import WorldModelWrapper

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.autoencoders import Observation, auto_decoder, auto_encoder, make_coder, step_before
from torchrl_glam.modules.context import first_steps
from torchrl_glam.modules.dynamics import GLAMDynamics, SequenceBackbone
from torchrl_glam.modules.heads import BinaryHead, CategoricalHead, StateActionEmbedding, TwoHotHead
from torchrl_glam.modules.latent import sample_one_hot


class GLAMWorldModel(TensorDictModuleBase):
    """World model of GLAM (AAAI 2025, section "World model"; sizes of STORM's Table 5).

    Reads what is observed, ``pixels`` (uint8 ``[b t h w channels]``), a vector ``observation`` (``[b t n]``) or both,
    and ``action`` (``[b t a]``), writes

    ====================== ======================= ==========================================================
    key                    shape                   meaning
    ====================== ======================= ==========================================================
    ``posterior_logits``   ``[b t k c]``           log q(z_t | x_t), unimixed
    ``features``           ``[b t f]``             the encoder's flattened CNN features
    ``frames``             ``[b t channels h w]``  the frame as floats, 0..1 scale
    ``state``              ``[b t k*c]``           z_t, straight-through one-hot sample
    ``reconstruction``     ``[b t channels h w]``  decoded frame, 0..1 scale
    ``belief``             ``[b t d]``             h_t
    ``variation``          ``[b t d]``             u^g_t (absent if the backbone has no such branch)
    ``prior_logits``       ``[b t k c]``           log p(z_{t+1} | h_t), unimixed
    ``reward_logits``      ``[b t bins]``          two-hot logits of r_t in symlog space
    ``termination_logits`` ``[b t 1]``             logit of c_t
    ====================== ======================= ==========================================================

    Of a vector, ``frames`` and ``reconstruction`` are ``[b t n]`` in symlog space; of both, they hold ``pixels`` and
    ``observation``. Reward and termination heads do not share a trunk; their trunks have the same shape.

    Args:
        action_size: width of an action.
        dynamics: the sequence backbone; :class:`GLAMDynamics` of width 256 if not given.
        image_shape: (height, width, channels) of ``pixels``; ``None`` if there are none.
        vector_size: ``n`` of ``observation``; 0 if there is none.
        channels: the image encoder's channels.
        num_categoricals: ``k``.
        num_classes: ``c``.
        head_width: hidden width of the reward and termination heads; the backbone's width if not given.
        unimix: uniform share of every categorical.
        marks_starts: add a learned vector to the token of an episode's first step, so that a sequence over several
            episodes, which time limits may have cut, says where each begins. STORM and GLAM do without.
        prior_layers: layers of the prior's head, 1 in GLAM.
        prior_temperature: temperature of the prior where it is sampled: in imagination, never in training. This goes
            beyond GLAM. The categoricals are drawn independently, so that what several of them encode together, such
            as the place of a ball, can be lost within a few steps; below 1 they agree more often.
        expected_prior: imagine with the prior's probabilities (after the temperature) in place of one-hot samples. This
            goes beyond GLAM: where the world is nearly deterministic, what the categoricals know together stays.
        expected_posterior: ``z`` is the posterior's probabilities in place of a one-hot sample, in training and acting.
            This goes beyond GLAM, after the latents of TD-MPC2 (arXiv 2310.16828, "SimNorm"): no noise hides small
            things while encoder and decoder are young. Set ``expected_prior`` too.
        residual_prior: the prior's logits are those of ``z_t`` and what the head adds. This goes beyond GLAM: the head
            says what changes, and nothing that stays has to pass through the belief.
        encoder: the class of the encoder, or a partial of it, by default the one that fits what is observed. Called
            with ``image_shape`` and ``channels`` if there are pixels, ``vector_size`` if there is a vector, and
            ``num_categoricals``, ``num_classes`` and ``unimix``. What it must be: :func:`check_encoder`.
        decoder: the class of the decoder; called with the same sizes of what is observed, and ``state_size``.
        reward_head: the class of the reward head; called with the widths of its input and of its trunk. It owns its
            logits, its loss and their decoding (:class:`~torchrl_glam.modules.heads.TwoHotHead`).

    Raises:
        UsageError: at construction, if nothing is observed, ``prior_temperature`` is not above 0, or a part lacks a
            method or cannot read what is observed; in ``forward``, if an entry has another shape or dtype.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl_glam.modules import GLAMWorldModel
        >>> world_model = GLAMWorldModel(action_size=6)
        >>> batch = TensorDict(
        ...     {"pixels": torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8), "action": torch.zeros(2, 8, 6)}, [2, 8]
        ... )
        >>> world_model(batch)["belief"].shape
        torch.Size([2, 8, 256])
    """

    def __init__(
        self,
        action_size: int,
        dynamics: SequenceBackbone | None = None,
        *,
        image_shape: Sequence[int] | None = (64, 64, 3),
        vector_size: int = 0,
        channels: Sequence[int] = (32, 64, 128, 256),
        num_categoricals: int = 32,
        num_classes: int = 32,
        head_width: int | None = None,
        unimix: float = 0.01,
        marks_starts: bool = False,
        prior_layers: int = 1,
        prior_temperature: float = 1.0,
        expected_prior: bool = False,
        expected_posterior: bool = False,
        residual_prior: bool = False,
        encoder: Callable[..., Any] = auto_encoder,
        decoder: Callable[..., Any] = auto_decoder,
        reward_head: Callable[..., Any] = TwoHotHead,
    ) -> None:
        super().__init__()
        if not prior_temperature > 0:
            raise UsageError(f"prior_temperature is {prior_temperature}: give a number above 0")
        self.prior_temperature, self.expected_prior = prior_temperature, expected_prior
        self.expected_posterior, self.residual_prior = expected_posterior, residual_prior
        self.out_keys = ["posterior_logits", "features", "frames", "state", "reconstruction", "belief", "variation"]
        self.out_keys += ["prior_logits", "reward_logits", "termination_logits"]
        dynamics = GLAMDynamics() if dynamics is None else dynamics
        width = dynamics.width
        self.action_size = action_size
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.vector_size = vector_size
        self.latent_shape = (num_categoricals, num_classes)
        self.state_size = num_categoricals * num_classes
        observed: dict[str, Any] = {} if image_shape is None else {"image_shape": image_shape, "channels": channels}
        observed |= {"vector_size": vector_size} if vector_size else {}
        latent = {"num_categoricals": num_categoricals, "num_classes": num_classes, "unimix": unimix}
        self.encoder = make_coder("encoder", encoder, observed, latent)
        self.decoder = make_coder("decoder", decoder, observed, {"state_size": self.state_size})
        self.in_keys = [*self.observation_keys, "action"]
        self.embedding = StateActionEmbedding(self.state_size, action_size, width)
        self.start_mark = nn.Parameter(torch.zeros(width)) if marks_starts else None
        self.dynamics = dynamics
        self.prior_head = CategoricalHead(width, num_categoricals, num_classes, unimix, prior_layers, residual_prior)
        self.reward_head = reward_head(width, head_width or width)
        self.termination_head = BinaryHead(width, head_width or width)
        _check_methods("reward head", self.reward_head, ("loss", "decode"))

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """The entries that the encoder reads."""
        return tuple(getattr(self.encoder, "in_keys", ("pixels",)))

    @property
    def sees_differences(self) -> bool:
        """True if the encoder reads what changed since the step before."""
        return bool(getattr(self.encoder, "difference", False))

    def observation(self, tensordict: TensorDictBase) -> Observation:
        """Return what the encoder reads of ``tensordict``: a tensor, or a TensorDict of several entries.

        Raises:
            UsageError: if an entry is missing, or has another shape or dtype.
        """
        for key in self.observation_keys:
            self._check_entry(key, tensordict.get(key, None))
        first, *others = self.observation_keys
        return tensordict.select(first, *others) if others else tensordict.get(first)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the entries of the class docstring's table into ``tensordict [b t]``; differentiable."""
        frames = self.encoder.preprocess(self.observation(tensordict))
        before = (step_before(frames),) if self.sees_differences else ()
        logits, features = self.encoder.encode(frames, *before)
        state = self._draw_posterior(logits)
        tokens = self.make_tokens(state, tensordict.get("action"), tensordict.get("is_init", None))
        beliefs, variation, _ = self.dynamics.forward_variation(tokens)
        tensordict.set("posterior_logits", logits)
        tensordict.set("features", features)
        tensordict.set("frames", frames)
        tensordict.set("state", state)
        tensordict.set("reconstruction", self.decoder(state))
        tensordict.set("belief", beliefs)
        if variation is not None:
            tensordict.set("variation", variation)
        tensordict.set("prior_logits", self.predict_logits(beliefs, state))
        tensordict.set("reward_logits", self.reward_head(beliefs))
        tensordict.set("termination_logits", self.termination_head(beliefs))
        return tensordict

    @property
    def marks_starts(self) -> bool:
        """True if the first step of an episode has a mark."""
        return self.start_mark is not None

    def begins(self, records: TensorDictBase) -> Bool[Tensor, "b t 1"] | None:
        """Return which of consecutive records begin an episode, by ``("next", "done")``; None if it marks no starts."""
        return first_steps(records["next", "done"]) if self.marks_starts else None

    def make_tokens(
        self, state: Float[Tensor, "*b kc"], action: Shaped[Tensor, "*b a"], is_init: Bool[Tensor, "*b 1"] | None = None
    ) -> Float[Tensor, "*b d"]:
        """Return the backbone's tokens ``f(z, a)``, with the mark of an episode's first step where ``is_init``."""
        tokens = self.embedding(state, action)
        return tokens if self.start_mark is None or is_init is None else tokens + is_init * self.start_mark

    def encode(self, observation: Observation, previous: Observation | None = None) -> Float[Tensor, "*b kc"]:
        """Sample ``z ~ q(z | x)``, for acting and imagining.

        Args:
            observation: what :meth:`observation` returns, such as pixels ``[*b h w channels]``.
            previous: that of the step before, for an encoder that reads differences; they are 0 without it.

        Raises:
            UsageError: for other observations; in training mode, where BatchNorm would normalise by these few frames
                and change its statistics.
        """
        if self.training:
            raise UsageError("the world model is in training mode: call world_model.eval() before acting or imagining")
        given = [observation] if previous is None or not self.sees_differences else [observation, previous]
        batch = self._check_observation(observation)
        flat = [each.reshape(batch.numel(), *each.shape[len(batch) :]) for each in given]
        # Frames are independent in eval mode. On a CPU, 16384 at once take 3 times as long as in parts (and 13 GB).
        at_once = 512 if observation.device is None or observation.device.type == "cpu" else 4096
        parts = zip(*(each.split(at_once) for each in flat), strict=True)
        logits = torch.cat([self.encoder(*part)[0] for part in parts])
        return self._draw_posterior(logits).reshape(*batch, -1)

    def _draw_posterior(self, logits: Float[Tensor, "*b k c"]) -> Float[Tensor, "*b kc"]:
        return (logits.exp() if self.expected_posterior else sample_one_hot(logits)).flatten(-2)

    def encode_sequence(self, observation: Observation) -> Float[Tensor, "b t kc"]:
        """Sample ``z ~ q(z | x)`` of consecutive steps ``[b t]``, of which the first one has no step before it."""
        return self.encode(observation, step_before(observation) if self.sees_differences else None)

    def _check_observation(self, observation: Observation) -> torch.Size:
        """Return the batch shape of an observation; raise UsageError for another one than the encoder's."""
        if isinstance(observation, TensorDictBase):
            self.observation(observation)
            return observation.batch_size
        (key,) = self.observation_keys
        self._check_entry(key, observation)
        return observation.shape[: -3 if key == "pixels" else -1]

    def _check_entry(self, key: str, entry: Tensor | None) -> None:
        if key not in ("pixels", "observation"):  # of an encoder of the user's
            return
        wanted = self.image_shape if key == "pixels" else (self.vector_size,)
        if entry is None:
            raise UsageError(f"there is no {key!r}: the world model was made for one, {list(wanted or ())}")
        if key == "pixels" and (entry.dtype != torch.uint8 or entry.shape[-3:] != wanted):
            raise UsageError(
                f"the pixels are {entry.dtype} of shape {tuple(entry.shape)}: the world model wants uint8 "
                f"[.. {' '.join(map(str, wanted or ()))}], channels last; give frames as they come, without "
                "ToTensorImage, or make it with another image_shape"
            )
        if key == "observation" and (not entry.is_floating_point() or entry.shape[-1:] != wanted):
            raise UsageError(
                f"the observation is {entry.dtype} of shape {tuple(entry.shape)}: the world model wants floats "
                f"[.. {self.vector_size}]; give the vectors as they come, or make it with another vector_size"
            )

    def predict_logits(
        self, belief: Float[Tensor, "*b d"], state: Float[Tensor, "*b kc"] | None = None
    ) -> Float[Tensor, "*b k c"]:
        """Return ``log p(z_{t+1} | h_t)``; a residual prior needs ``z_t`` too, if there is one."""
        return self.prior_head(belief, state if self.residual_prior else None)

    def predict_state(
        self, belief: Float[Tensor, "*b d"], state: Float[Tensor, "*b kc"] | None = None
    ) -> Float[Tensor, "*b kc"]:
        """Sample ``z_{t+1} ~ p(z | h_t)``, or with ``expected_prior`` return its mean; see :meth:`predict_logits`."""
        return self.draw_prior(self.predict_logits(belief, state))

    def draw_prior(self, log_probabilities: Float[Tensor, "*b k c"]) -> Float[Tensor, "*b kc"]:
        """Sample a predicted latent, or with ``expected_prior`` return its mean."""
        if self.expected_prior:
            return (log_probabilities / self.prior_temperature).softmax(-1).flatten(-2)
        return sample_one_hot(log_probabilities, self.prior_temperature).flatten(-2)

    def predict_outcome(
        self, belief: Float[Tensor, "*b d"]
    ) -> tuple[Float[Tensor, "*b 1"], Bool[Tensor, "*b 1"], Bool[Tensor, "*b 1"]]:
        """Return the reward (raw units), terminated and done (logit > 0) that follow a belief."""
        reward = self.reward_head.decode(self.reward_head(belief))
        terminated = self.termination_head(belief) > 0
        return reward, terminated, terminated.clone()

    def make_wrapper(self, dynamics: SequenceBackbone | None = None) -> WorldModelWrapper:
        """Make TorchRL's view of one imagined step, for a model-based env; parameters are shared.

        The transition reads ``state``, ``action`` and ``memory`` and writes ``state``, ``belief`` and ``memory``; the
        second part reads ``belief`` and writes ``reward``, ``terminated`` and ``done``.

        Args:
            dynamics: a replacement of the world model's own backbone, such as a
                :class:`~torchrl_glam.modules.dynamics.SlidingWindow` over it.
        """
        transition = TensorDictModule(
            LatentTransition(self, self.dynamics if dynamics is None else dynamics),
            in_keys=["state", "action", "memory"],
            out_keys=["state", "belief", "memory"],
        )
        outcome = TensorDictModule(self.predict_outcome, in_keys=["belief"], out_keys=["reward", "terminated", "done"])
        return WorldModelWrapper(transition, outcome)


class LatentTransition(nn.Module):
    """``(z_t, a_t, memory) -> (z_{t+1}, h_t, memory)``: embed, one backbone step, sample the prior.

    Args:
        world_model: supplies the embedding and the prior.
        dynamics: the backbone to step.
    """

    def __init__(self, world_model: GLAMWorldModel, dynamics: SequenceBackbone) -> None:
        super().__init__()
        self.world_model = world_model
        self.stand_in = None if dynamics is world_model.dynamics else dynamics  # registered once in either case

    @property
    def dynamics(self) -> SequenceBackbone:
        """The backbone that is stepped."""
        return self.world_model.dynamics if self.stand_in is None else self.stand_in

    def forward(
        self, state: Float[Tensor, "b kc"], action: Shaped[Tensor, "b a"], memory: TensorDictBase
    ) -> tuple[Float[Tensor, "b kc"], Float[Tensor, "b d"], TensorDictBase]:
        """Run one imagined step."""
        belief, memory = self.dynamics.step(self.world_model.embedding(state, action), memory)
        return self.world_model.predict_state(belief, state), belief, memory

    def start(
        self, observation: Observation, action: Shaped[Tensor, "b t a"], is_init: Bool[Tensor, "b t 1"] | None = None
    ) -> tuple[Float[Tensor, "b kc"], Float[Tensor, "b d"], TensorDictBase]:
        """Run over real contexts and return what ``forward`` returns after their last step.

        Only the encoder and the backbone run, not the decoder. ``is_init`` says which steps begin an episode.
        """
        return self.read_context(self.world_model.encode_sequence(observation), action, is_init)

    def read_context(
        self,
        state: Float[Tensor, "b t kc"],
        action: Shaped[Tensor, "b t a"],
        is_init: Bool[Tensor, "b t 1"] | None = None,
    ) -> tuple[Float[Tensor, "b kc"], Float[Tensor, "b d"], TensorDictBase]:
        """Do as :meth:`start`, of latents that are known already."""
        belief, memory = self.dynamics.prefill(self.world_model.make_tokens(state, action, is_init))
        return self.world_model.predict_state(belief, state[:, -1]), belief, memory

    def unroll(
        self,
        state: Float[Tensor, "b t kc"],
        action: Shaped[Tensor, "b t a"],
        first: int,
        is_init: Bool[Tensor, "b t 1"] | None = None,
    ) -> tuple[Float[Tensor, "steps kc"], Float[Tensor, "steps d"], TensorDictBase]:
        """Run over known latents and return what ``forward`` returns, for several steps in one batch.

        The steps are those from ``first`` whose next latent is known, ``(t - 1 - first) * b`` of them. They have that
        next latent instead of a sample of the prior. ``is_init`` says which begin an episode.
        """
        tokens = self.world_model.make_tokens(state, action, is_init)
        memory = self.dynamics.prefill(tokens[:, :first])[1] if first else self.dynamics.initial_memory(len(state))
        beliefs, memories = [], []
        for token in tokens[:, first:-1].unbind(1):
            belief, memory = self.dynamics.step(token, memory)
            beliefs.append(belief)
            memories.append(memory)
        following = state[:, first + 1 :].transpose(0, 1).flatten(0, 1)
        return following, torch.cat(beliefs), TensorDict.cat(memories)


def _check_methods(part: str, module: nn.Module, wanted: Sequence[str]) -> None:
    """Raise UsageError for a part of the user's that lacks a method."""
    if missing := [method for method in wanted if not callable(getattr(module, method, None))]:
        raise UsageError(f"the {part} {type(module).__name__} lacks {', '.join(missing)}: add what is missing")
