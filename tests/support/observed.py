"""World models of every kind of observation, and random data for them."""

from __future__ import annotations

from functools import partial

import torch
from tensordict import TensorDict

from torchrl_glam.modules import GLAMWorldModel, auto_encoder
from torchrl_glam.modules.autoencoders import PatchEncoder, example_observation

KINDS: dict[str, dict] = {
    "vector": {"image_shape": None, "vector_size": 5},
    "mixed": {"image_shape": (8, 12, 3), "vector_size": 5},
    "grey": {"image_shape": (6, 8, 1)},
    "difference": {"encoder": partial(auto_encoder, difference=True)},
    "mixed difference": {"vector_size": 5, "encoder": partial(auto_encoder, difference=True)},
    "patch difference": {"encoder": partial(PatchEncoder, patch=2, difference=True)},
}
"""Options of the fixture ``make_world_model``."""


def make_batch(world_model: GLAMWorldModel, batch: int = 2, time: int = 8) -> TensorDict:
    """Return random real data ``[b t]``, of which the first sequence has an episode's end in it."""
    observation = example_observation(
        world_model.image_shape, world_model.vector_size, world_model.observation_keys, batch * time
    )
    if not isinstance(observation, TensorDict):
        observation = TensorDict({world_model.observation_keys[0]: observation}, [batch * time])
    done = torch.zeros(batch, time, 1, dtype=torch.bool)
    done[0, 3] = True
    outcome = {"reward": torch.randn(batch, time, 1), "life_loss": torch.zeros_like(done), "done": done}
    action = torch.eye(3)[torch.randint(3, (batch, time))]
    return observation.reshape(batch, time).update({"action": action, "next": outcome})
