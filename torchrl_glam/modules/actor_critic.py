"""Actors and critics: STORM's MLPs on the concatenation of latent and belief, ``[z, h]``.

``b`` any leading shape, ``kc`` width of the flattened latent, ``d`` width of the belief, ``a`` width of an action.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Bounded, MultiOneHot, OneHot, TensorSpec
from torchrl.modules import OneHotCategorical, ProbabilisticActor, SymExpTwoHot

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.heads import TwoHotHead, ZeroLinear, make_trunk
from torchrl_glam.modules.one_hot_blocks import OneHotBlocks, block_sizes
from torchrl_glam.modules.squashed_normal import SquashedNormal

STATE_KEYS = ["state", "belief"]
NUM_BINS = 255
MIN_SCALE = 0.1
"""Least standard deviation of a continuous action before squashing (DreamerV3, arXiv 2301.04104)."""


class StateMLP(nn.Module):
    """Trunk and linear layer on ``[z, h]``.

    Args:
        state_size: width of ``z``.
        width: width of ``h``.
        outputs: width of the output.
        hidden, num_layers: of the trunk.
        zero_output: predict 0 before any training.
    """

    def __init__(
        self,
        state_size: int,
        width: int,
        outputs: int,
        hidden: int = 512,
        num_layers: int = 2,
        *,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = make_trunk(state_size + width, hidden, num_layers)
        self.output = (ZeroLinear if zero_output else nn.Linear)(hidden, outputs)

    def forward(self, state: Float[Tensor, "*b kc"], belief: Float[Tensor, "*b d"]) -> Float[Tensor, "*b outputs"]:
        """Return the outputs in at least float32, as they become log-probabilities."""
        outputs = self.output(self.trunk(torch.cat([state, belief], -1)))
        return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


class NormalMLP(nn.Module):
    """Mean and standard deviation of a normal, from ``[z, h]``.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
        action_size: ``a``.
    """

    def __init__(self, state_size: int, width: int, action_size: int, hidden: int = 512, num_layers: int = 2) -> None:
        super().__init__()
        self.network = StateMLP(state_size, width, 2 * action_size, hidden, num_layers)
        with torch.device("cpu"):  # tensordict 0.14.3 reads a number off a tensor here, which "meta" has not
            self.split = NormalParamExtractor(scale_lb=MIN_SCALE)

    def forward(
        self, state: Float[Tensor, "*b kc"], belief: Float[Tensor, "*b d"]
    ) -> tuple[Float[Tensor, "*b a"], Float[Tensor, "*b a"]]:
        """Return mean and standard deviation."""
        return self.split(self.network(state, belief))


class TwoHotCritic(nn.Module):
    """Two-hot logits and decoded value of ``[z, h]``.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
    """

    def __init__(self, state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> None:
        super().__init__()
        self.head = TwoHotHead(state_size + width, hidden, num_layers)

    def forward(
        self, state: Float[Tensor, "*b kc"], belief: Float[Tensor, "*b d"]
    ) -> tuple[Float[Tensor, "*b bins"], Float[Tensor, "*b 1"]]:
        """Return logits and value, the value in raw units."""
        logits = self.head(torch.cat([state, belief], -1))
        return logits, self.head.decode(logits)


class CriticModule(TensorDictModule):
    """:class:`TwoHotCritic` on tensordicts: ``state``, ``belief`` to ``state_value_logits``, ``state_value``."""

    def __init__(self, critic: TwoHotCritic) -> None:
        super().__init__(critic, in_keys=STATE_KEYS, out_keys=["state_value_logits", "state_value"])

    @property
    def bins(self) -> Float[Tensor, " bins"]:
        """The critic's grid in symlog space."""
        return cast(TwoHotCritic, self.module).head.bins


def make_actor(
    state_size: int, width: int, action_spec: TensorSpec, hidden: int = 512, num_layers: int = 2
) -> ProbabilisticActor:
    """Make an actor, which reads ``state`` and ``belief`` and writes ``action`` and its ``action_log_prob [b]``.

    It also writes the parameters of the action's distribution: ``logits`` for one-hot actions, of which there may be
    several blocks (:class:`~torchrl_glam.modules.one_hot_blocks.OneHotBlocks`); for continuous ones ``loc`` and
    ``scale`` of a normal that is squashed into the bounds
    (:class:`~torchrl_glam.modules.squashed_normal.SquashedNormal`).

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
        action_spec: ``OneHot``, ``MultiOneHot``, or ``Bounded`` with floats, of shape ``[.. a]``.

    Raises:
        UsageError: if ``action_spec`` is of another kind.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl_glam.modules import make_actor
        >>> actor = make_actor(state_size=12, width=8, action_spec=Bounded(-1, 1, (2,)), hidden=16)
        >>> states = TensorDict({"state": torch.zeros(5, 12), "belief": torch.zeros(5, 8)}, [5])
        >>> actor(states)["action"].shape
        torch.Size([5, 2])
    """
    if isinstance(action_spec, OneHot):
        return _make_one_hot_actor(StateMLP(state_size, width, action_spec.shape[-1], hidden, num_layers), action_spec)
    if isinstance(action_spec, Bounded) and action_spec.dtype.is_floating_point:
        return _make_continuous_actor(
            NormalMLP(state_size, width, action_spec.shape[-1], hidden, num_layers), action_spec
        )
    kind = f"{type(action_spec).__name__} of {action_spec.dtype}"
    raise UsageError(f"the actions are {kind}: an actor is made for OneHot, MultiOneHot, or Bounded with floats")


def _make_one_hot_actor(network: StateMLP, action_spec: TensorSpec) -> ProbabilisticActor:
    # A check of arguments would wait for the GPU, and so forbid a CUDA graph.
    options: dict[str, Any] = {"validate_args": False}
    if several := isinstance(action_spec, MultiOneHot):
        options = {"sizes": block_sizes(action_spec)}
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=STATE_KEYS, out_keys=["logits"]),
        in_keys=["logits"],
        spec=action_spec,
        distribution_class=OneHotBlocks if several else OneHotCategorical,
        distribution_kwargs=options,
        return_log_prob=True,
    )


def _make_continuous_actor(network: NormalMLP, action_spec: TensorSpec) -> ProbabilisticActor:
    first = (0,) * (action_spec.ndim - 1)  # of a batch of environments, which have the same bounds
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=STATE_KEYS, out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=action_spec,
        distribution_class=SquashedNormal,
        distribution_kwargs={"low": action_spec.space.low[first], "high": action_spec.space.high[first]},
        return_log_prob=True,
    )


def make_critic(state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> CriticModule:
    """Make the critic for :class:`~torchrl_glam.objectives.GLAMCriticLoss`; arguments as for :class:`StateMLP`."""
    return CriticModule(TwoHotCritic(state_size, width, hidden, num_layers))


def make_value(state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> TensorDictModule:
    """Make a critic for TorchRL's actor-critic losses; it writes ``state_value [b 1]``, 0 before any training.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
    """
    network = StateMLP(state_size, width, 1, hidden, num_layers, zero_output=True)
    return TensorDictModule(network, in_keys=STATE_KEYS, out_keys=["state_value"])


def make_symexp_critic(state_size: int, width: int, hidden: int = 512, num_layers: int = 2) -> TensorDictSequential:
    """Make a critic for ``torchrl.objectives.DreamerV3ValueLoss(..., value_loss="two_hot")``; 0 before any training.

    It writes ``state_value_logits [b 255]`` and ``state_value [b 1]``, decoded by TorchRL's ``SymExpTwoHot``: the
    expected value over bins in raw units. (:func:`make_critic` decodes to the expected bin in symlog space.)

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
    """
    network = StateMLP(state_size, width, NUM_BINS, hidden, num_layers, zero_output=True)
    return TensorDictSequential(
        TensorDictModule(network, in_keys=STATE_KEYS, out_keys=["state_value_logits"]),
        TensorDictModule(SymExpTwoHot(NUM_BINS), in_keys=["state_value_logits"], out_keys=["state_value"]),
    )


def make_q_values(
    state_size: int, width: int, num_actions: int, hidden: int = 512, num_layers: int = 2
) -> TensorDictModule:
    """Make a critic for TorchRL's ``DiscreteSACLoss``; it writes ``action_value [b num_actions]``, 0 at the start.

    Args:
        state_size, width, hidden, num_layers: as for :class:`StateMLP`.
        num_actions: number of discrete actions.
    """
    network = StateMLP(state_size, width, num_actions, hidden, num_layers, zero_output=True)
    return TensorDictModule(network, in_keys=STATE_KEYS, out_keys=["action_value"])
