"""The contract of networks that choose actions from returns-to-go, states and past actions, and the usual one.

``..`` any leading shape, ``b`` batch, ``t`` environment steps, ``o`` observation size, ``a`` action size, ``d`` width.
An observation is ``[o]``, or ``[h w c]`` of uint8 pixels. The output has the width ``a`` or ``output_size``: logits of
discrete actions, or the parameters of continuous ones (:mod:`torchrl_glam.offline.actions`).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics import SequenceBackbone
from torchrl_glam.offline.tokens import TOKENS_PER_STEP, DecisionTokens


class DecisionActor(nn.Module, abc.ABC):
    """The contract of an actor: ``forward`` over whole windows, or step by step, ``observe`` and ``remember`` in turns.

    Both ways give the same outputs. The memory is a TensorDict ``[b]``, passed in and out, never an attribute; it is
    zeros before the first step.

    Args:
        observation_shape: ``(o,)``, or ``(h, w, c)`` of uint8 pixels.
        action_size: ``a``; discrete actions are one-hot.
        output_size: width of the output, ``action_size`` if ``None``.
        context: steps of the windows that it learns from and acts by.

    Attributes:
        max_context: the longest window in steps that it takes, ``None`` for any.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_size: int,
        output_size: int | None = None,
        *,
        context: int = 20,
    ) -> None:
        super().__init__()
        self.observation_shape = torch.Size(observation_shape)
        self.action_size = action_size
        self.output_size = action_size if output_size is None else output_size
        self.context = context
        self.max_context: int | None = None

    @abc.abstractmethod
    def forward(
        self, observation: Tensor, action: Tensor, return_to_go: Tensor, time_step: Tensor | None = None
    ) -> Tensor:
        """Return outputs ``[.. t output_size]`` for every step of windows; step t knows no action from ``a_t`` on.

        Args:
            observation: ``[.. t o]`` or ``[.. t h w c]``, raw.
            action: ``[.. t a]``.
            return_to_go: ``[.. t 1]``, raw.
            time_step: ``[.. t 1]``, whole numbers: steps since the episode's start; ``None`` is 0 to t - 1.

        Raises:
            UsageError: if a shape does not fit.
        """

    @abc.abstractmethod
    def observe(
        self, observation: Tensor, return_to_go: Tensor, time_step: Tensor, memory: TensorDictBase
    ) -> tuple[Tensor, TensorDictBase]:
        """Map a step before its action, ``[b o]``, ``[b 1]``, ``[b 1]``, to ``[b output_size]`` and the memory."""

    @abc.abstractmethod
    def remember(self, action: Tensor, time_step: Tensor, memory: TensorDictBase) -> TensorDictBase:
        """Return the memory after the action ``[b a]`` that was taken at ``time_step [b 1]``."""

    @abc.abstractmethod
    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first step: zeros."""

    @abc.abstractmethod
    def set_statistics(self, mean: Tensor | None, std: Tensor | None, return_scale: float) -> None:
        """Keep the data's statistics: mean and deviation ``[o]`` of observations, and the divisor of returns."""

    def check(self, observation: Tensor, **others: Tensor) -> torch.Size:
        """Return the leading shape that all inputs share.

        Raises:
            UsageError: names the first input that does not fit.
        """
        size = len(self.observation_shape)
        leading = observation.shape[: max(0, observation.ndim - size)]
        if observation.shape[len(leading) :] != self.observation_shape:
            needed = " ".join(map(str, self.observation_shape))
            raise UsageError(f"observation has the shape {list(observation.shape)}: give [.. {needed}]")
        widths = {"action": self.action_size, "return_to_go": 1, "time_step": 1}
        for name, value in others.items():
            if value.shape != (*leading, widths[name]):
                needed = f"{[*leading, widths[name]]} beside an observation {list(observation.shape)}"
                raise UsageError(f"{name} has the shape {list(value.shape)}: give {needed}")
        return leading


class SequenceActor(DecisionActor):
    """Tokens, any sequence backbone over them, and a linear head that reads the backbone at the state's token.

    Args:
        tokens: embeds the steps.
        backbone: of the same width; :func:`~torchrl_glam.modules.check_backbone` tests one of your own.
        output_size, context: see :class:`DecisionActor`.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import MambaDynamics
        >>> from torchrl_glam.offline.base import SequenceActor
        >>> from torchrl_glam.offline.tokens import DecisionTokens
        >>> actor = SequenceActor(DecisionTokens((11,), 3, 32), MambaDynamics(32))
        >>> actor(torch.randn(2, 5, 11), torch.randn(2, 5, 3), torch.randn(2, 5, 1)).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self, tokens: DecisionTokens, backbone: SequenceBackbone, output_size: int | None = None, *, context: int = 20
    ) -> None:
        super().__init__(tokens.observation.shape, tokens.action.in_features, output_size, context=context)
        self.tokens = tokens
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, self.output_size)

    def forward(
        self, observation: Tensor, action: Tensor, return_to_go: Tensor, time_step: Tensor | None = None
    ) -> Tensor:
        """See :meth:`DecisionActor.forward`."""
        leading = self.check(observation, action=action, return_to_go=return_to_go)
        if time_step is None:
            time = leading[-1] if leading else 0
            time_step = torch.arange(time, device=action.device).unsqueeze(-1).expand(*leading, 1)
        self.check(observation, time_step=time_step)
        if not leading or (self.max_context is not None and leading[-1] > self.max_context):
            most = "" if self.max_context is None else f" of at most {self.max_context} steps"
            raise UsageError(f"observation has the shape {list(observation.shape)}: give windows [.. t ..]{most}")
        inputs = [
            value.flatten(0, -3) if value.ndim > 2 else value[None] for value in (action, return_to_go, time_step)
        ]
        observation = observation.reshape(-1, leading[-1], *self.observation_shape)
        beliefs, _ = self.backbone(self.tokens(observation, *inputs))
        return self.head(beliefs[:, 1::TOKENS_PER_STEP]).reshape(*leading, self.output_size)

    def observe(
        self, observation: Tensor, return_to_go: Tensor, time_step: Tensor, memory: TensorDictBase
    ) -> tuple[Tensor, TensorDictBase]:
        """See :meth:`DecisionActor.observe`."""
        self.check(observation, return_to_go=return_to_go, time_step=time_step)
        tokens = torch.stack(self.tokens.embed_observed(observation, return_to_go, time_step), 1)
        belief, memory = self.backbone.extend(tokens, memory)
        return self.head(belief), memory

    def remember(self, action: Tensor, time_step: Tensor, memory: TensorDictBase) -> TensorDictBase:
        """See :meth:`DecisionActor.remember`."""
        return self.backbone.extend(self.tokens.embed_action(action, time_step).unsqueeze(1), memory)[1]

    def initial_memory(self, batch_size: int) -> TensorDict:
        """See :meth:`DecisionActor.initial_memory`."""
        return self.backbone.initial_memory(batch_size)

    def set_statistics(self, mean: Tensor | None, std: Tensor | None, return_scale: float) -> None:
        """See :meth:`DecisionActor.set_statistics`."""
        self.tokens.set_statistics(mean, std, return_scale)
