"""The teachers' networks.

``b`` batch (any leading dimensions), ``o`` observation size, ``a`` action size.
"""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.data import OneHot, TensorSpec
from torchrl.modules import MLP, NormalParamExtractor, OneHotCategorical, ProbabilisticActor, TanhNormal, ValueOperator


class Normaliser(nn.Module):
    """Scales observations by the mean and variance of those that it was shown, so that records stay as they were.

    Args:
        size: of an observation.
        limit: values beyond it, in standard deviations, are cut.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int, limit: float = 10.0) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def observe(self, observation: Tensor) -> None:
        """Take more observations ``[b o]`` into account (Chan et al., 1979, parallel variance)."""
        observation = observation.flatten(0, -2)
        number, total = len(observation), self.count + len(observation)
        shift = observation.mean(0) - self.mean
        spread = self.variance * self.count + observation.var(0, unbiased=False) * number
        self.variance.copy_((spread + shift**2 * self.count * number / total) / total)
        self.mean.add_(shift * number / total)
        self.count.copy_(total)

    def forward(self, observation: Tensor) -> Tensor:
        """Normalise ``[b o]``."""
        return ((observation - self.mean) / (self.variance + 1e-8).sqrt()).clamp(-self.limit, self.limit)


def make_actor(
    observation_size: int, action_spec: TensorSpec, width: int, *, normalise: bool, log_prob: bool
) -> ProbabilisticActor:
    """A policy of two hidden layers: a squashed normal within the bounds, or a choice of one-hot actions.

    Args:
        observation_size: of the vector that it reads.
        action_spec: without batch dimensions.
        width: of the hidden layers.
        normalise: put a :class:`Normaliser` before them.
        log_prob: write the actions' log-probability too, for PPO.
    """
    discrete = isinstance(action_spec, OneHot)
    size = action_spec.shape[-1] * (1 if discrete else 2)
    activation = nn.Tanh if normalise else nn.ReLU
    layers: list[nn.Module] = [Normaliser(observation_size)] if normalise else []
    layers += [MLP(observation_size, size, num_cells=[width, width], activation_class=activation)]
    if discrete:
        keys, distribution, bounds = ["logits"], OneHotCategorical, {}
    else:
        layers += [NormalParamExtractor()]
        keys, distribution = ["loc", "scale"], TanhNormal
        bounds = {"low": action_spec.space.low, "high": action_spec.space.high}
    network = TensorDictModule(nn.Sequential(*layers), ["observation"], keys)
    return ProbabilisticActor(
        network,
        keys,
        spec=action_spec,
        distribution_class=distribution,
        distribution_kwargs=bounds,
        return_log_prob=log_prob,
    )


def make_state_value(observation_size: int, width: int, normaliser: Normaliser) -> ValueOperator:
    """PPO's critic, behind the actor's normaliser."""
    layers = MLP(observation_size, 1, num_cells=[width, width], activation_class=nn.Tanh)
    return ValueOperator(nn.Sequential(normaliser, layers), ["observation"])


def make_action_value(observation_size: int, action_size: int, width: int) -> ValueOperator:
    """One of SAC's critics."""
    layers = MLP(observation_size + action_size, 1, num_cells=[width, width], activation_class=nn.ReLU)
    return ValueOperator(layers, ["action", "observation"])
