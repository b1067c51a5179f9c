"""TorchRL's specs of an imagined environment."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torchrl.data import Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase
from torchrl.envs.utils import make_composite_from_td

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import GLAMWorldModel


def set_imagined_specs(
    env: EnvBase, world_model: GLAMWorldModel, action_spec: TensorSpec, memory: TensorDictBase
) -> None:
    """Give ``env`` its specs.

    Args:
        env: the imagined environment, of any batch size ``b``.
        world_model: the model it imagines with.
        action_spec: the real environment's, ``[a]``.
        memory: an empty memory of the backbone, ``[b]``.

    Raises:
        UsageError: if ``action_spec`` has another shape than the world model's actions.
    """
    _check_action_spec(action_spec, world_model.action_size)
    batch, device = env.batch_size, env.device
    state = Unbounded((*batch, world_model.state_size), device=device)
    belief = Unbounded((*batch, world_model.dynamics.width), device=device)
    memory_spec = make_composite_from_td(memory, unsqueeze_null_shapes=False)
    env.observation_spec = Composite(state=state, belief=belief, memory=memory_spec, shape=batch, device=device)
    env.state_spec = env.observation_spec.clone()
    env.action_spec = action_spec.to(device).expand(*batch, *action_spec.shape).clone()
    env.reward_spec = Unbounded((*batch, 1), device=device)
    done = Categorical(2, shape=(*batch, 1), dtype=torch.bool, device=device)
    env.done_spec = Composite(done=done, terminated=done.clone(), shape=batch, device=device)


def _check_action_spec(action_spec: TensorSpec, action_size: int) -> None:
    if action_spec.shape == (action_size,):
        return
    if isinstance(action_spec, Categorical):
        advice = "take one-hot actions (categorical_action_encoding=False in TorchRL's environments)"
    elif action_spec.shape[-1:] == (action_size,):
        advice = "give env.action_spec_unbatched"
    else:
        advice = "give the spec of the actions that the world model was made for"
    raise UsageError(
        f"action_spec is {type(action_spec).__name__} of shape {tuple(action_spec.shape)}: the world model wants "
        f"({action_size},); {advice}"
    )
