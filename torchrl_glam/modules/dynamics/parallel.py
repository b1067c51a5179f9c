"""Backbones side by side over the same tokens: the belief is their sum.

``b`` batch, ``t`` time, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jaxtyping import Float
from tensordict import TensorDict
from torch import Tensor

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.dynamics.base import SequenceBackbone, nest_memories


class ParallelDynamics(SequenceBackbone):
    """``h_t = sum_i branch_i(tokens)_t``; each branch keeps its own memory, under its name.

    A branch is an attribute, and its parameters a part of the state dict, of the same name.

    Args:
        branches: name to backbone, all of one width.
        variation: the branch whose output is the variation; none if not given.

    Raises:
        UsageError: if there is no branch, if widths differ, if a name is taken or has a dot, or if ``variation`` names
            no branch.

    Examples:
        >>> import torch
        >>> from torchrl_glam.modules import MambaDynamics, ParallelDynamics, TransformerDynamics
        >>> dynamics = ParallelDynamics({"mamba": MambaDynamics(32), "attention": TransformerDynamics(32)})
        >>> beliefs, memory = dynamics(torch.randn(2, 16, 32))
        >>> beliefs.shape, sorted(memory.keys())
        (torch.Size([2, 16, 32]), ['attention', 'mamba'])
    """

    def __init__(self, branches: Mapping[str, SequenceBackbone], variation: str | None = None) -> None:
        widths = {name: branch.width for name, branch in branches.items()}
        if not widths or len(set(widths.values())) > 1:
            raise UsageError(f"branches have the widths {widths}: give one branch or more, all of the same width")
        if variation is not None and variation not in widths:
            raise UsageError(f"variation={variation!r} is no branch: choose one of {', '.join(widths)}, or None")
        super().__init__(next(iter(widths.values())))
        self.names = tuple(widths)
        self.variation = variation
        self.has_variation = variation is not None
        for name, branch in branches.items():
            if not name.isidentifier() or name in dir(self):
                raise UsageError(f"a branch cannot be called {name!r}: choose a name that is free for an attribute")
            self.add_module(name, branch)

    @property
    def branches(self) -> dict[str, SequenceBackbone]:
        """The backbones by name."""
        return {name: getattr(self, name) for name in self.names}

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t d"], TensorDict]:
        """See :meth:`SequenceBackbone.forward`."""
        beliefs, _, memory = self.forward_variation(tokens)
        return beliefs, memory

    def forward_variation(
        self, tokens: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t d"] | None, TensorDict]:
        """See :meth:`SequenceBackbone.forward_variation`; the variation is the output of that branch."""
        outputs, memories = {}, {}
        for name, branch in self.branches.items():
            outputs[name], memories[name] = branch(tokens)
        variation = None if self.variation is None else outputs[self.variation]
        return _add(outputs.values()), variation, nest_memories(memories)

    def prefill(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.prefill`."""
        outputs, memories = {}, {}
        for name, branch in self.branches.items():
            outputs[name], memories[name] = branch.prefill(tokens)
        return _add(outputs.values()), nest_memories(memories)

    def step(self, token: Float[Tensor, "b d"], memory: TensorDict) -> tuple[Float[Tensor, "b d"], TensorDict]:
        """See :meth:`SequenceBackbone.step`."""
        outputs, memories = {}, {}
        for name, branch in self.branches.items():
            outputs[name], memories[name] = branch.step(token, memory[name])
        return _add(outputs.values()), nest_memories(memories)

    def initial_memory(self, batch_size: int) -> TensorDict:
        """See :meth:`SequenceBackbone.initial_memory`."""
        return nest_memories({name: branch.initial_memory(batch_size) for name, branch in self.branches.items()})


def _add(outputs: Iterable[Tensor]) -> Tensor:
    first, *others = outputs
    return sum(others, start=first)
