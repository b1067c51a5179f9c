"""From any TorchRL environment to the keys that the rest of the package expects."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, TensorSpec, Unbounded
from torchrl.envs import (
    ActionScaling,
    Compose,
    DoubleToFloat,
    EnvBase,
    InitTracker,
    RewardSum,
    StepCounter,
    Transform,
    TransformedEnv,
)

from torchrl_glam.envs.observations import names, observation_transforms
from torchrl_glam.errors import UsageError


def adapt_env(
    env: EnvBase,
    *,
    observation: str = "auto",
    pixels_key: NestedKey | None = None,
    image_size: int | None = 64,
    color: str = "rgb",
) -> TransformedEnv:
    """Give an environment of any batch size the keys that world models are trained on.

    They are ``pixels`` [h w c] uint8, or ``observation`` [n] float32, or both; ``action``, one-hot, several one-hot
    blocks, or within [-1, 1]; ``reward``; ``life_loss`` [1] bool, which is ``terminated`` if the environment has no
    such entry of its own; ``terminated``, ``done``, and ``truncated`` if there is one; ``episode_reward``,
    ``step_count``, ``is_init``. What else the environment observes is left out.

    Args:
        env: has the keys ``action`` (one-hot, ``MultiOneHot``, or a bounded vector of floats), ``reward`` and
            ``terminated``. An observed image is uint8, or floats from 0 to 1; [h w c], [c h w] or [h w], where c is 1
            or 3. Other numbers make the vector: flattened, and concatenated in the order of their keys.
        observation: ``auto``, all that there is; ``pixels``, the image only; ``state``, the vector only; ``mixed``,
            both, or an error.
        pixels_key: the image's entry; ``None``: ``pixels``, or the only image of 16 pixels a side or more.
        image_size: height and width of ``pixels``; ``None``: the image's own.
        color: ``rgb``, ``grey``, or ``native``: 3 channels, 1, or the image's own.

    Raises:
        UsageError: if a key is missing or of another kind; later, at a step that observes what is not finite.

    Examples:
        >>> from torchrl.envs import GymEnv
        >>> env = adapt_env(GymEnv("ALE/Breakout-v5", frame_skip=4))
        >>> env.rollout(3)["next", "pixels"].shape
        torch.Size([3, 64, 64, 3])
        >>> adapt_env(GymEnv("CartPole-v1")).rollout(3)["next", "observation"].shape
        torch.Size([3, 4])
    """
    transforms = observation_transforms(env, observation, pixels_key, image_size, color)
    return finish_env(TransformedEnv(env, Compose(*transforms), auto_unwrap=True))


def finish_env(env: EnvBase) -> TransformedEnv:
    """Give an environment the keys besides its observations; errors as of :func:`adapt_env`."""
    known = set(env.full_observation_spec.keys(True, True))
    for key, found in {"reward": env.reward_keys, "terminated": env.done_keys}.items():
        if key not in found:
            raise UsageError(f"the environment has no {key!r}, but {names(found)}: {_RENAME}")
    additions = {
        "life_loss": TerminationIsLifeLoss,
        "episode_reward": RewardSum,
        "step_count": StepCounter,
        "is_init": InitTracker,
    }
    missing = [addition() for key, addition in additions.items() if key not in known]
    return TransformedEnv(env, Compose(*_action_transforms(env), *missing), auto_unwrap=True)


class TerminationIsLifeLoss(Transform):
    """Set ``life_loss`` where a game without lives terminates, so that every environment has the key."""

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        return next_tensordict.set("life_loss", next_tensordict["terminated"].clone())

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        return tensordict_reset.set("life_loss", self.parent.full_done_spec["terminated"].zero())

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Add the spec of ``life_loss``, which is that of ``terminated``."""
        observation_spec["life_loss"] = self.parent.full_done_spec["terminated"].clone()
        return observation_spec


class RowsToBlocks(Transform):
    """Turn several one-hot choices, the rows of an action [.. k n], into the blocks of a ``MultiOneHot`` [.. k*n].

    torchrl 0.14.1 makes rows of a ``MultiDiscrete`` whose choices are equal in number, and blocks of any other.
    """

    def __init__(self) -> None:
        super().__init__(in_keys_inv=["action"], out_keys_inv=["action"])

    def _inv_apply_transform(self, action: Tensor) -> Tensor:
        return action.unflatten(-1, self.parent.full_action_spec["action"].shape[-2:])

    def transform_input_spec(self, input_spec: Composite) -> Composite:
        """Replace the spec of ``action``."""
        rows = input_spec["full_action_spec", "action"]
        *batch, number, choices = rows.shape
        shape, sizes = (*batch, number * choices), [choices] * number
        blocks = MultiOneHot(sizes, shape, device=rows.device, dtype=rows.dtype)
        input_spec["full_action_spec", "action"] = blocks
        return input_spec


_RENAME = "rename it by torchrl.envs.RenameTransform"


def _action_transforms(env: EnvBase) -> list[Transform]:
    if env.action_keys != ["action"]:
        raise UsageError(f"the environment's actions are {names(env.action_keys)}, only 'action' is wanted: {_RENAME}")
    spec = env.action_spec
    if type(spec) is MultiOneHot and spec.ndim == env.batch_dims + 1:
        return []
    if type(spec) is OneHot and spec.ndim == env.batch_dims + 2:
        return [RowsToBlocks()]
    if type(spec) is OneHot:  # MultiOneHot and Binary are kinds of it and of Categorical
        if spec.shape[-1] == 1:
            raise UsageError("the environment has one action only: choose another, nothing can be learned there")
        return []
    if type(spec) in (Categorical, MultiCategorical):
        raise UsageError("the environment's actions are numbers: make it with categorical_action_encoding=False")
    if not _is_bounded_vector(spec, env.batch_dims):
        raise UsageError(
            f"the environment's actions are {type(spec).__name__} {spec.dtype} {list(spec.shape)}: one-hot ones are "
            "wanted, or a bounded vector of floats"
        )
    scaled = bool((spec.space.low == -1).all() and (spec.space.high == 1).all())
    rounding = [DoubleToFloat(in_keys=[], in_keys_inv=["action"])] if spec.dtype == torch.float64 else []
    return [*([] if scaled else [ActionScaling()]), *rounding]


def _is_bounded_vector(spec: TensorSpec, batch_dims: int) -> bool:
    if not spec.dtype.is_floating_point or spec.ndim != batch_dims + 1 or isinstance(spec, Unbounded):
        return False
    low, high = spec.space.low, spec.space.high
    most = torch.finfo(spec.dtype).max  # torchrl's infinity
    return bool((low.abs() < most).all() and (high.abs() < most).all() and (low < high).all())
