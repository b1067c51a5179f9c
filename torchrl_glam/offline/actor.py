"""Networks that choose actions: MambaDM and those that it is compared with.

``b`` batch, ``t`` environment steps, ``o`` observation size, ``a`` action size, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.modules import MLP

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics import TransformerDynamics
from torchrl_glam.modules.signature import passes_on
from torchrl_glam.offline.base import DecisionActor, SequenceActor
from torchrl_glam.offline.gloma import GLoMa, GLoMaStack
from torchrl_glam.offline.tokens import TOKENS_PER_STEP, DecisionTokens, ObservationEncoder


class MambaDMActor(SequenceActor):
    """MambaDM (arXiv 2406.02013): GLoMa blocks over the interleaved tokens.

    Depth and width are those of the Decision Transformer on Gym; we do not know the paper's.

    Args:
        observation_shape, action_size, context, output_size: see :class:`DecisionActor`.
        width: ``d``.
        num_layers: blocks.
        local_length, fusion, branches: see :class:`~torchrl_glam.offline.GLoMa`; the length is in tokens, 3 per step.
        max_steps: see :class:`~torchrl_glam.offline.tokens.DecisionTokens`.
        dropout: probability, of the tokens and in the blocks.
        d_state, d_conv, expand, backend: see :class:`~torchrl_glam.modules.MambaBlock`.

    Examples:
        >>> import torch
        >>> from torchrl_glam.offline.actor import MambaDMActor
        >>> actor = MambaDMActor((11,), 3, width=32).eval()
        >>> output, memory = actor.observe(torch.randn(2, 11), torch.ones(2, 1), torch.zeros(2, 1).long(),
        ...                                actor.initial_memory(2))
        >>> memory = actor.remember(output.tanh(), torch.zeros(2, 1).long(), memory)
        >>> output.shape, memory["0", "local", "position"]
        (torch.Size([2, 3]), tensor([3, 3]))
    """

    @passes_on(GLoMa)
    def __init__(
        self,
        observation_shape: Sequence[int],
        action_size: int,
        *,
        width: int = 128,
        num_layers: int = 3,
        context: int = 20,
        max_steps: int = 4096,
        dropout: float = 0.1,
        output_size: int | None = None,
        **gloma: Any,
    ) -> None:
        tokens = DecisionTokens(observation_shape, action_size, width, max_steps=max_steps, dropout=dropout)
        stack = GLoMaStack(width, num_layers=num_layers, dropout=dropout, **gloma)
        super().__init__(tokens, stack, output_size, context=context)


class DMambaActor(MambaDMActor):
    """DMamba (arXiv 2403.19925): the Decision Transformer with Mamba in the place of attention.

    That is ``x = x + Mamba(Norm(x))``, then ``x = x + FeedForward(Norm(x))``: MambaDM without the local branch, so
    that the two differ in that branch only.

    Args:
        observation_shape, action_size, output_size, width, num_layers, context, max_steps, dropout, d_state, d_conv, \
expand, backend: see :class:`MambaDMActor`.
    """

    @passes_on(MambaDMActor, without=("local_length", "fusion", "branches"))
    def __init__(self, observation_shape: Sequence[int], action_size: int, **options: Any) -> None:
        super().__init__(observation_shape, action_size, branches="global", **options)


class DecisionTransformerActor(SequenceActor):
    """Decision Transformer (arXiv 2106.01345): a GPT-2-like Transformer over the interleaved tokens.

    Norms stand in front of attention and feed-forward network (four times as wide, GELU) and at the end. Beside its
    time, each token has a learned embedding of its place in the window, as in the paper's GPT-2.

    Args:
        observation_shape, action_size, output_size: see :class:`DecisionActor`.
        width: ``d``.
        num_layers: Transformer layers.
        num_heads: attention heads, a divisor of ``width``.
        context: steps of a window, and the most that it takes.
        max_steps: see :class:`~torchrl_glam.offline.tokens.DecisionTokens`.
        dropout: probability, of the embedded tokens, attention weights and the output of each part.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_size: int,
        *,
        width: int = 128,
        num_layers: int = 3,
        num_heads: int = 1,
        context: int = 20,
        max_steps: int = 4096,
        dropout: float = 0.1,
        output_size: int | None = None,
    ) -> None:
        # The backbone drops the tokens with their positions: once is enough.
        tokens = DecisionTokens(observation_shape, action_size, width, max_steps=max_steps, dropout=0.0)
        backbone = TransformerDynamics(
            width,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            max_length=TOKENS_PER_STEP * context,
            norm_first=True,
            expand=4,
            activation="gelu",
        )
        super().__init__(tokens, backbone, output_size, context=context)
        self.max_context = context


class BehaviourCloningActor(DecisionActor):
    """Behaviour cloning: an MLP that sees only the current observation and imitates all of the data.

    For the contract's sake it takes past actions, returns and times, and ignores them.

    Args:
        observation_shape, action_size, context, output_size: see :class:`DecisionActor`.
        width: of the hidden layers.
        num_layers: hidden layers; the first is in :class:`~torchrl_glam.offline.tokens.ObservationEncoder`.
        dropout: probability, after each hidden layer, in training mode.

    Raises:
        UsageError: if ``num_layers`` is below 1, and as the encoder does.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        action_size: int,
        *,
        width: int = 128,
        num_layers: int = 3,
        context: int = 20,
        dropout: float = 0.1,
        output_size: int | None = None,
    ) -> None:
        super().__init__(observation_shape, action_size, output_size, context=context)
        if num_layers < 1:
            raise UsageError(f"num_layers={num_layers}: give at least 1 hidden layer")
        self.encoder = ObservationEncoder(observation_shape, width)
        hidden = MLP(
            width, self.output_size, num_cells=[width] * (num_layers - 1), activation_class=nn.ReLU, dropout=dropout
        )
        self.layers = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), hidden)

    def forward(
        self, observation: Tensor, action: Tensor, return_to_go: Tensor, time_step: Tensor | None = None
    ) -> Tensor:
        """See :meth:`DecisionActor.forward`; only ``observation`` counts."""
        self.check(observation)
        return self.layers(self.encoder(observation))

    def observe(
        self, observation: Tensor, return_to_go: Tensor, time_step: Tensor, memory: TensorDictBase
    ) -> tuple[Tensor, TensorDictBase]:
        """See :meth:`DecisionActor.observe`."""
        self.check(observation)
        return self.layers(self.encoder(observation)), memory

    def remember(self, action: Tensor, time_step: Tensor, memory: TensorDictBase) -> TensorDictBase:
        """See :meth:`DecisionActor.remember`: the number of steps, which nothing reads."""
        return memory.replace(length=memory["length"] + 1)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return ``length [b 1]``, steps so far: an environment's specs take no memory without entries."""
        device = self.encoder.linear.weight.device
        length = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
        return TensorDict({"length": length}, batch_size=[batch_size], device=device)

    def set_statistics(self, mean: Tensor | None, std: Tensor | None, return_scale: float) -> None:
        """See :meth:`DecisionActor.set_statistics`; there are no returns to divide."""
        self.encoder.set_statistics(mean, std)
