"""The distribution of several discrete actions at once: independent one-hot blocks side by side.

``b`` any leading shape, ``a`` width of all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import one_hot
from torchrl.data import MultiOneHot, TensorSpec
from torchrl.modules import OneHotCategorical


def block_sizes(action_spec: TensorSpec) -> list[int]:
    """Return the number of choices of each block of a ``MultiOneHot``; a ``OneHot`` has one block."""
    if isinstance(action_spec, MultiOneHot):
        return [int(box.n) for box in action_spec.space]
    return [action_spec.shape[-1]]


class OneHotBlocks(Distribution):
    """Independent one-hot choices: log-probability and entropy are the sums of those of the blocks.

    Args:
        logits: of all blocks ``[*b a]``.
        sizes: the blocks' numbers of choices, whose sum is ``a``.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules.one_hot_blocks import OneHotBlocks
        >>> actions = OneHotBlocks(torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0]), sizes=(3, 2))
        >>> actions.mode
        tensor([0, 0, 1, 1, 0])
        >>> actions.log_prob(actions.mode)
        tensor(-1.1008)
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (torch's interface)
    has_enumerate_support = False

    def __init__(self, logits: Float[Tensor, "*b a"], sizes: Sequence[int]) -> None:
        self.sizes, self.logits = tuple(sizes), logits
        # torchrl 0.14.1 takes off a last dimension of 1, which would be that of a single choice
        blocks = (block.unsqueeze(-1) for block in logits.split(self.sizes, -1))
        self.blocks = [OneHotCategorical(logits=block, validate_args=False) for block in blocks]
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)  # a check would wait for the GPU

    def expand(self, batch_shape: Sequence[int], _instance: OneHotBlocks | None = None) -> OneHotBlocks:
        """Return the same distribution in the shape ``[*batch_shape a]``."""
        return OneHotBlocks(self.logits.expand(*batch_shape, self.logits.shape[-1]), self.sizes)

    def sample(self, sample_shape: Sequence[int] = ()) -> Int[Tensor, "*b a"]:
        """Draw a choice of each block, as int64."""
        with torch.no_grad():
            return torch.cat([block.sample(torch.Size(sample_shape)) for block in self.blocks], -1)

    def log_prob(self, value: Shaped[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Return the log-probability of one choice of each block."""
        chosen = zip(self.blocks, value.split(self.sizes, -1), strict=True)
        return torch.stack([block.log_prob(choice) for block, choice in chosen]).sum(0)

    def entropy(self) -> Float[Tensor, "*b"]:
        """Return the entropy in nats."""
        return torch.stack([block.entropy() for block in self.blocks]).sum(0)

    @property
    def mode(self) -> Int[Tensor, "*b a"]:
        """Return the likeliest choice of each block, the first one of equals."""
        blocks = self.logits.split(self.sizes, -1)
        return torch.cat([one_hot(block.argmax(-1), block.shape[-1]) for block in blocks], -1)

    @property
    def deterministic_sample(self) -> Int[Tensor, "*b a"]:
        """Return :attr:`mode`, as TorchRL asks for it."""
        return self.mode
