"""The contract of a sequence backbone: all that the world model knows of it.

``b`` batch, ``t`` time, ``d`` width. A backbone maps tokens to beliefs causally. Its memory is a TensorDict that is
passed in and out, never an attribute. For every backbone:

* ``step`` unrolled from ``initial_memory`` returns the beliefs of ``forward``;
* ``forward`` over a context returns the memory from which ``step`` continues;
* ``prefill`` is ``forward`` for callers that need only the last belief.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor, nn


class SequenceBackbone(nn.Module, abc.ABC):
    """Base class of sequence backbones.

    Attributes:
        has_variation: ``forward_variation`` returns a variation, which the variation loss (Eq. 10) trains.

    Args:
        width: ``d``, of tokens and beliefs.
    """

    has_variation: bool = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abc.abstractmethod
    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """Run over a whole sequence from the empty memory.

        Returns:
            Beliefs, and the memory (batch size ``[b]``) after the last token.
        """

    @abc.abstractmethod
    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Advance by one token.

        Args:
            token: the next token.
            memory: from ``forward``, ``step`` or ``initial_memory``; it is not written to.

        Returns:
            The belief, and the new memory.
        """

    def extend(self, tokens: Float[Tensor, "b t d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Advance by several tokens; return the last belief and the new memory. A backbone may do so at lower cost."""
        for token in tokens.unbind(1):
            belief, memory = self.step(token, memory)
        return belief, memory

    @abc.abstractmethod
    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token, batch size ``[b]``, on the module's device."""

    def forward_variation(
        self, tokens: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t d"] | None, TensorDict]:
        """Run as ``forward``; return beliefs, variation and memory.

        The variation is the part of the belief that predicts the change of the latent (GLAM's ``u^g``). It is ``None``
        if the backbone has no such branch.
        """
        beliefs, memory = self(tokens)
        return beliefs, None, memory

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """Run as ``forward``, but return only the last belief; a backbone may do so at a lower cost."""
        beliefs, memory = self(tokens)
        return beliefs[:, -1], memory


def nest_memories(memories: Mapping[str, TensorDict]) -> TensorDict:
    """Nest memories (at least one) of the same batch size and device, each under its name."""
    first = next(iter(memories.values()))
    return TensorDict(dict(memories), batch_size=first.batch_size, device=first.device)
