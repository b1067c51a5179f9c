"""The contract of a sequence backbone: all that the world model knows of it.

``b`` batch, ``t`` time, ``d`` width. A backbone maps tokens to beliefs causally. Its memory is a TensorDict that is
passed in and out, never an attribute. For every backbone:

* ``step`` unrolled from ``initial_memory`` gives the beliefs of ``forward``;
* ``forward`` over a context returns the memory from which ``step`` goes on;
* ``prefill`` is ``forward`` for those who want the last belief alone.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping

from tensordict import TensorDict
from torch import Tensor, nn


class SequenceBackbone(nn.Module, abc.ABC):
    """Base class of sequence backbones.

    Attributes:
        has_variation: ``forward_variation`` returns a variation, which the variation loss (Eq. 10) trains.

    Args:
        width: ``d``, of tokens and beliefs alike.
    """

    has_variation: bool = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abc.abstractmethod
    def forward(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """Run over a whole sequence from the empty memory.

        Args:
            tokens: ``[b t d]``.

        Returns:
            Beliefs ``[b t d]`` and the memory (batch size ``[b]``) after the last token.
        """

    @abc.abstractmethod
    def step(self, token: Tensor, memory: TensorDict) -> tuple[Tensor, TensorDict]:
        """Go on by one token.

        Args:
            token: ``[b d]``.
            memory: what ``forward``, ``step`` or ``initial_memory`` returned; it is not written to.

        Returns:
            Belief ``[b d]`` and the new memory.
        """

    @abc.abstractmethod
    def initial_memory(self, batch_size: int) -> TensorDict:
        """Return the memory before the first token, batch size ``[b]``, on the module's device."""

    def forward_variation(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, TensorDict]:
        """As ``forward``, with the variation ``[b t d]`` between the two (``None`` if the backbone has no such branch).

        The variation is the part of the belief that is to predict the change of the latent (GLAM's ``u^g``).
        """
        beliefs, memory = self(tokens)
        return beliefs, None, memory

    def prefill(self, tokens: Tensor) -> tuple[Tensor, TensorDict]:
        """As ``forward``, but return the last belief alone ``[b d]``, for less where a backbone can."""
        beliefs, memory = self(tokens)
        return beliefs[:, -1], memory


def nest_memories(memories: Mapping[str, TensorDict]) -> TensorDict:
    """One memory made of several (one at least) of the same batch size and device, each under its name."""
    first = next(iter(memories.values()))
    return TensorDict(dict(memories), batch_size=first.batch_size, device=first.device)
