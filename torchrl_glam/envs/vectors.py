"""Vectors: how numbers of any shape become ``observation``."""

from __future__ import annotations

import math

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, MultiCategorical, TensorSpec, Unbounded
from torchrl.envs import ObservationTransform

from torchrl_glam.errors import UsageError


class ToVector(ObservationTransform):
    """Turn an entry of numbers into a vector [.. n] of float32.

    A scalar becomes [1], an array is flattened, a whole number of a few choices (TorchRL's ``Categorical`` and
    ``MultiCategorical``) becomes one-hot.

    Args:
        key: the entry.
        spec: its spec.
        batch_dims: of the environment.

    Raises:
        UsageError: at the step where a number comes that is not finite, no choice, or one too many.
    """

    def __init__(self, key: NestedKey, spec: TensorSpec, batch_dims: int) -> None:
        super().__init__(in_keys=[key], out_keys=[key])
        self._key, self._ndim = key, spec.ndim - batch_dims
        self._choices = _choices(spec)
        self.size = sum(self._choices) or math.prod(spec.shape[batch_dims:])

    def _apply_transform(self, observation: Tensor) -> Tensor:
        batch = observation.shape[: observation.ndim - self._ndim]
        numbers = observation.reshape(*batch, -1)
        if numbers.shape[-1] != (len(self._choices) or self.size):
            raise UsageError(
                f"the environment's {self._key!r} has {numbers.shape[-1]} numbers, and its spec says "
                f"{len(self._choices) or self.size}: mend the environment"
            )
        if self._choices:
            if not ((numbers >= 0) & (numbers < torch.tensor(self._choices, device=numbers.device))).all():
                raise UsageError(
                    f"the environment's {self._key!r} is {numbers.tolist()}, and its spec says it is from 0 to less "
                    f"than {self._choices}: mend the environment"
                )
            blocks = zip(numbers.long().unbind(-1), self._choices, strict=True)
            numbers = torch.cat([torch.nn.functional.one_hot(number, choices) for number, choices in blocks], -1)
        vector = numbers.to(torch.float32, copy=True)  # some environments write every observation into the same array
        if len(bad := (~vector.isfinite()).nonzero()):
            number, place = numbers[tuple(bad[0])].item(), int(bad[0, -1])
            raise UsageError(
                f"the environment's {self._key!r} has {number} at place {place}, and finite float32 numbers are "
                "wanted: mend the environment, or clip what it observes"
            )
        return vector

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Replace the entry's spec."""
        shape = (*observation_spec.shape, self.size)
        observation_spec[self._key] = Unbounded(shape, device=observation_spec.device)
        return observation_spec


def _choices(spec: TensorSpec) -> list[int]:
    """Return how many values each whole number of an entry takes; an empty list for other numbers and for flags."""
    if type(spec) is MultiCategorical:
        return [int(number) for number in spec.nvec.reshape(-1, spec.shape[-1])[0]]
    if type(spec) is Categorical and spec.dtype != torch.bool:
        return [int(spec.n)]
    return []
