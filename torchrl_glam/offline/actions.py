"""A network's output as a distribution over actions, wired to TensorDict keys.

``..`` any leading shape, ``t`` environment steps, ``a`` action size.
"""

from __future__ import annotations

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor
from torchrl.data import Bounded, MultiOneHot, OneHot, TensorSpec
from torchrl.modules import NormalParamExtractor, OneHotCategorical, ProbabilisticActor, TanhDelta

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.squashed_normal import SquashedNormal
from torchrl_glam.offline.base import DecisionActor

IN_KEYS = ["observation", "action", "return_to_go", "time_step"]


class SquashedDelta(TanhDelta):
    """TorchRL's :class:`~torchrl.modules.TanhDelta` for any bounds.

    TorchRL's own (0.14.1) moves the parameter by the bounds' midpoint before it is squashed: in bounds of 0 and 100 all
    actions are 100, without a gradient.
    """

    def update(self, net_output: Tensor) -> Tensor | None:
        """Take another parameter ``[.. a]``."""
        if not hasattr(self, "base_dist"):
            return net_output
        return self.base_dist.update(net_output)


def make_decision_actor(
    network: DecisionActor, action_spec: TensorSpec, stochastic: bool = False, action_key: NestedKey = "action"
) -> ProbabilisticActor:
    """Make an actor for TorchRL's losses and :class:`~torchrl_glam.offline.DecisionPolicy`, over windows ``[.. t]``.

    It reads ``observation``, ``action``, ``return_to_go`` and, if there is one, ``time_step``. Beside the action it
    writes the ``logits`` of discrete actions, ``param``, of which the tanh is the continuous action in its bounds, or,
    if stochastic, ``loc`` and ``scale`` (:class:`~torchrl_glam.modules.squashed_normal.SquashedNormal`).

    ``OnlineDTLoss`` wants a stochastic actor.

    TorchRL's ``BCLoss`` (0.14.1) calls a stochastic actor twice, the second time with the action that the first call
    wrote. So that a network which reads past actions does not learn from its own, let it write elsewhere:
    ``BCLoss(make_decision_actor(network, action_spec, action_key="prediction"))``.

    Args:
        network: with an ``output_size`` of the actions' size, twice that if stochastic and continuous.
        action_spec: of an environment: ``OneHot``, or ``Bounded`` with floats.
        stochastic: for ``Bounded`` actions. One-hot ones always are.
        action_key: the key of the written action.

    Raises:
        UsageError: if the actions are of another kind, have no bounds, or do not fit the network's output.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> from torchrl.objectives import DTLoss
        >>> from torchrl_glam.offline.actor import MambaDMActor
        >>> from torchrl_glam.offline.actions import make_decision_actor
        >>> actor = make_decision_actor(MambaDMActor((11,), 3, width=32), Bounded(-1, 1, (3,)))
        >>> sizes = {"observation": 11, "action": 3, "return_to_go": 1}
        >>> windows = TensorDict({key: torch.zeros(4, 20, size) for key, size in sizes.items()}, [4, 20])
        >>> actor(windows)["action"].shape
        torch.Size([4, 20, 3])
        >>> DTLoss(actor)(windows)["loss"].shape
        torch.Size([])
    """
    is_discrete = isinstance(action_spec, OneHot) and not isinstance(action_spec, MultiOneHot)
    if not is_discrete and not (isinstance(action_spec, Bounded) and action_spec.dtype.is_floating_point):
        kind = f"{type(action_spec).__name__} of {action_spec.dtype}"
        raise UsageError(f"the actions are {kind}: an actor is made for OneHot, or Bounded with floats")
    wanted = action_spec.shape[-1] * (2 if stochastic and not is_discrete else 1)
    if network.output_size != wanted:
        raise UsageError(f"output_size of the network is {network.output_size}: these actions need {wanted}")
    keys, distribution, options = ["logits"], OneHotCategorical, {}
    if not is_discrete:
        keys, distribution = (["loc", "scale"], SquashedNormal) if stochastic else (["param"], SquashedDelta)
        options = _bounds(action_spec, next(network.parameters()).device)
    is_normal = distribution is SquashedNormal
    modules = [TensorDictModule(network, in_keys=IN_KEYS, out_keys=["output" if is_normal else keys[0]])]
    if is_normal:
        modules.append(TensorDictModule(NormalParamExtractor(), in_keys=["output"], out_keys=keys))
    return ProbabilisticActor(
        TensorDictSequential(*modules),
        in_keys=keys,
        out_keys=[action_key],
        spec=action_spec,
        distribution_class=distribution,
        distribution_kwargs=options,
    )


def _bounds(action_spec: Bounded, device: torch.device) -> dict[str, Tensor]:
    """Return ``low`` and ``high`` ``[a]``; in a batch of environments, which share them, those of the first.

    They are on the network's device: a copy from the CPU at each call would wait for a GPU.
    """
    first = (0,) * (action_spec.ndim - 1)
    bounds = {"low": action_spec.space.low[first].to(device), "high": action_spec.space.high[first].to(device)}
    if not all(bound.isfinite().all() for bound in bounds.values()):
        raise UsageError("the actions have no bounds: rescale them to some, as gymnasium.wrappers.RescaleAction does")
    return bounds
