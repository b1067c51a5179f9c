"""Actor and critic of STORM's agent: MLPs on the concatenation of latent and belief, ``[z, h]``."""

from __future__ import annotations

from typing import cast

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import TensorSpec
from torchrl.modules import OneHotCategorical, ProbabilisticActor

from torchrl_glam.modules.heads import TwoHotHead, make_trunk


class StateMLP(nn.Module):
    """Trunk and linear layer on ``[z, h]``.

    Args:
        state_size: width of ``z``.
        width: width of ``h``.
        outputs: width of the output.
        hidden, num_layers: of the trunk.
    """

    def __init__(self, state_size: int, width: int, outputs: int, hidden: int = 512, num_layers: int = 2) -> None:
        super().__init__()
        self.trunk = make_trunk(state_size + width, hidden, num_layers)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, state: Tensor, belief: Tensor) -> Tensor:
        """``state [b k*c]``, ``belief [b d]`` to ``[b outputs]``, in float32 at least: they make log-probabilities."""
        outputs = self.output(self.trunk(torch.cat([state, belief], -1)))
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


class TwoHotCritic(nn.Module):
    """Two-hot logits and decoded value of ``[z, h]``.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
    """

    def __init__(self, state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> None:
        super().__init__()
        self.head = TwoHotHead(state_size + width, hidden, num_layers)

    def forward(self, state: Tensor, belief: Tensor) -> tuple[Tensor, Tensor]:
        """``state [b k*c]``, ``belief [b d]`` to logits ``[b bins]`` and value ``[b 1]`` in raw units."""
        logits = self.head(torch.cat([state, belief], -1))
        return logits, self.head.decode(logits)


class CriticModule(TensorDictModule):
    """:class:`TwoHotCritic` on tensordicts: ``state``, ``belief`` to ``state_value_logits``, ``state_value``."""

    def __init__(self, critic: TwoHotCritic) -> None:
        super().__init__(critic, in_keys=["state", "belief"], out_keys=["state_value_logits", "state_value"])

    @property
    def bins(self) -> Tensor:
        """The critic's grid in symlog space, ``[bins]``."""
        return cast(TwoHotCritic, self.module).head.bins


def make_actor(
    state_size: int, width: int, action_spec: TensorSpec, hidden: int = 512, num_layers: int = 2
) -> ProbabilisticActor:
    """Actor for one-hot actions: reads ``state`` and ``belief``, writes ``logits``, ``action`` and its log-probability.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
        action_spec: a one-hot spec; its last dimension is the number of actions.
    """
    network = StateMLP(state_size, width, action_spec.shape[-1], hidden, num_layers)
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=["state", "belief"], out_keys=["logits"]),
        in_keys=["logits"],
        spec=action_spec,
        distribution_class=OneHotCategorical,
        distribution_kwargs={"validate_args": False},  # it would wait for the GPU, and so forbid a CUDA graph
        return_log_prob=True,
    )


def make_critic(state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> CriticModule:
    """Critic for :class:`~torchrl_glam.objectives.GLAMCriticLoss`; arguments as for :class:`StateMLP`."""
    return CriticModule(TwoHotCritic(state_size, width, hidden, num_layers))
