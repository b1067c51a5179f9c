"""Acting in the real environment: a context of the last real steps, and the actor on top of it.

``b`` any leading shape, ``kc`` width of the flattened latent, ``d`` width of the belief, ``a`` width of an action.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import Composite, TensorSpec, Unbounded
from torchrl.envs import TensorDictPrimer

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.context import append_entry, newest_entry
from torchrl_glam.modules.world_model import GLAMWorldModel

SEES = ("prior", "posterior")


class GLAMPolicy(TensorDictModuleBase):
    """Policy for the real environment (STORM section 3.3, used by GLAM).

    Reads what the world model observes and its own ``context``: the latents ``z`` and actions of the last
    ``context_length`` real steps, each encoded once, when it arrives. The backbone runs over the context, the actor
    sees ``[z_t, h_{t-1}]``, and ``(z_t, a_t)`` is appended. With an empty context (the first step of an episode) the
    action is uniform.

    The context is part of the tensordict, never of the module, so that any number of environments can be batched. An
    episode's start clears it, or with ``keep_context`` continues that of the last episode, as the released code does.
    It holds latents by the numbers of their classes, one byte each, since a collector records it twice per step and
    copies it between devices; latents that are probabilities it holds as they are. Prepare the environment for it by
    :meth:`make_tensordict_primer`, or let a collector do so (``auto_register_policy_transforms=True``).

    Acting never tracks gradients. Keep the world model in eval mode (BatchNorm).

    Args:
        world_model: encodes frames and runs the backbone.
        actor: reads ``state`` and ``belief``, writes ``action``.
        action_spec: the environment's action spec, for uniform actions.
        context_length: number of real steps in the context.
        sees: ``prior`` (z_t sampled from the prior, as in imagination) or ``posterior`` (from the frame itself).
        keep_context: do not clear the context at an episode's end.

    Raises:
        UsageError: if ``sees`` is neither; in ``forward``, if there is no context.

    Examples:
        >>> from torchrl.collectors import Collector
        >>> from torchrl_glam.envs import make_atari_env
        >>> from torchrl_glam.modules import GLAMPolicy, GLAMWorldModel, make_actor
        >>> env = make_atari_env("ALE/Pong-v5", seed=0)
        >>> world_model = GLAMWorldModel(action_size=6).eval()
        >>> actor = make_actor(world_model.state_size, 256, env.action_spec)
        >>> policy = GLAMPolicy(world_model, actor, env.action_spec)
        >>> options = {"frames_per_batch": 3, "total_frames": 3, "auto_register_policy_transforms": True}
        >>> [steps["next", "context", "length"].flatten().tolist() for steps in Collector(env, policy, **options)]
        [[1, 2, 3]]
    """

    def __init__(
        self,
        world_model: GLAMWorldModel,
        actor: TensorDictModuleBase,
        action_spec: TensorSpec,
        *,
        context_length: int = 16,
        sees: str = "prior",
        keep_context: bool = False,
    ) -> None:
        super().__init__()
        if sees not in SEES:
            raise UsageError(f"sees is {sees!r}: choose one of {', '.join(SEES)}")
        self.world_model = world_model
        self.actor = actor
        self.action_spec = action_spec
        self.context_length = context_length
        self.sees = sees
        self.keep_context = keep_context
        remembered = [("context", key) for key in self.context_spec]
        self.in_keys = [*world_model.observation_keys, *remembered]
        self.out_keys = ["action", *(("next", *key) for key in remembered)]

    @property
    def context_spec(self) -> Composite:
        """The spec of the context of one environment; its zero is the empty context."""
        num_categoricals, num_classes = self.world_model.latent_shape
        dtype = torch.uint8 if num_classes <= 256 else torch.int32
        state = Unbounded((self.context_length, num_categoricals), dtype=dtype)
        if self.world_model.expected_posterior:
            state = Unbounded((self.context_length, self.world_model.state_size))
        action = Unbounded((self.context_length, self.world_model.action_size))
        spec = Composite(state=state, action=action, length=Unbounded((1,), dtype=torch.long))
        if self.world_model.marks_starts:
            spec["is_init"] = Unbounded((self.context_length, 1), dtype=torch.bool)
        if self.world_model.sees_differences:
            assert self.world_model.image_shape is not None
            spec["pixels"] = Unbounded(self.world_model.image_shape, dtype=torch.uint8)  # of the last step
        return spec

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """Make the transform that adds an empty context to the environment's reset."""
        primer = KeptPrimer if self.keep_context else TensorDictPrimer
        return primer(Composite(context=self.context_spec), default_value=0, expand_specs=True)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` and ``("next", "context")`` for any batch shape.

        Raises:
            UsageError: without a context, which the primer adds.
        """
        context = tensordict.get("context", None)
        if context is None:
            raise UsageError(
                "there is no context: call env.append_transform(policy.make_tensordict_primer()), or give "
                "auto_register_policy_transforms=True to the collector"
            )
        observed = self._encode(tensordict, context)
        belief, imagined = self.recall(context)
        state = imagined if self.sees == "prior" else observed
        inputs = TensorDict({"state": state, "belief": belief}, batch_size=tensordict.shape)
        action = self.actor(inputs).get("action")
        empty = context.get("length") == 0
        action = torch.where(empty, self._uniform_action(action), action)
        tensordict.set("action", action)
        following = self.remember(context, observed, action)
        if self.world_model.sees_differences:
            following.set("pixels", tensordict.get("pixels"))
        tensordict.set(("next", "context"), following)
        return tensordict

    def _encode(self, tensordict: TensorDictBase, context: TensorDictBase) -> Float[Tensor, "*b kc"]:
        observation = self.world_model.observation(tensordict)
        if not self.world_model.sees_differences:
            return self.world_model.encode(observation)
        now = tensordict.get("pixels")
        before = torch.where(context.get("length")[..., None, None] == 0, now, context.get("pixels").to(now.device))
        previous = before if isinstance(observation, Tensor) else observation.copy().set("pixels", before)
        return self.world_model.encode(observation, previous)

    def recall(self, context: TensorDictBase) -> tuple[Float[Tensor, "*b d"], Float[Tensor, "*b kc"]]:
        """Return the belief after the context, and a sample of the prior of the current frame."""
        state = context.get("state")
        if not self.world_model.expected_posterior:
            state = nn.functional.one_hot(state.long(), self.world_model.latent_shape[1]).flatten(-2)
        state = state.to(next(self.world_model.embedding.parameters()).dtype)
        tokens = self.world_model.make_tokens(state, context.get("action"), context.get("is_init", None))
        beliefs, _ = self.world_model.dynamics(tokens.reshape(-1, *tokens.shape[-2:]))
        belief = newest_entry(beliefs.reshape(tokens.shape), context.get("length"))
        return belief, self.world_model.predict_state(belief, newest_entry(state, context.get("length")))

    def _uniform_action(self, action: Shaped[Tensor, "*b a"]) -> Shaped[Tensor, "*b a"]:
        """Draw a uniform random action for every element of ``action``."""
        missing = action.ndim - self.action_spec.ndim
        return self.action_spec.rand(action.shape[:missing]).to(action)

    def remember(
        self, context: TensorDictBase, state: Float[Tensor, "*b kc"], action: Shaped[Tensor, "*b a"]
    ) -> TensorDict:
        """Append ``(state, action)`` to the context and drop the oldest entry if it is full."""
        length = context.get("length")
        if not self.world_model.expected_posterior:
            state = state.unflatten(-1, self.world_model.latent_shape).argmax(-1)
        new = {
            "state": append_entry(context.get("state"), state, length),
            "action": append_entry(context.get("action"), action, length),
            "length": (length + 1).clamp_max(self.context_length),
        }
        if self.world_model.marks_starts:
            new["is_init"] = append_entry(context.get("is_init"), length == 0, length)
        return TensorDict(new, batch_size=context.batch_size)


class KeptPrimer(TensorDictPrimer):
    """A primer whose entries outlive episodes: a reset writes them only if it is not that of an episode's end."""

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        # At an episode's end there is a mask, and what the reset does not write stays as it was (torchrl 0.14.1).
        ended = tensordict.get(self.reset_key, None) is not None
        return tensordict_reset if ended else super()._reset(tensordict, tensordict_reset)
