"""Imagination under given actions: what it depends on, and who steps alike."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import OneHot
from torchrl.modules import symlog

from tests.support.observed import KINDS, make_batch
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.tools.imagination import decode_observations, imagine_actions, imagine_observations


def test_imagination_sees_the_context_and_the_actions_alone(make_world_model, make_batch, shake):
    world_model, batch = shake(make_world_model(), scale=3.0), make_batch(1)[0]  # so much that every input tells
    transition = LatentTransition(world_model, world_model.dynamics)

    def imagine(pixels: Tensor, action: Tensor) -> Tensor:
        torch.manual_seed(3)
        records = TensorDict({"pixels": pixels, "action": action}, [8])[None]
        return imagine_observations(transition, records, context_length=5)["pixels"][0]

    pixels, action = batch["pixels"], batch["action"]
    frames = imagine(pixels, action)
    assert (frames.shape, frames.dtype) == ((3, 8, 8, 3), torch.uint8)
    changed = [255 - pixels[:5], pixels[5:]], [pixels[:5], 255 - pixels[5:]]
    assert not torch.equal(frames, imagine(torch.cat(changed[0]), action))
    assert torch.equal(frames, imagine(torch.cat(changed[1]), action))
    # Frame 5 + i follows action 4 + i; the last action has no frame any more.
    moved = [torch.cat([action[:at], action[at : at + 1].roll(1, -1), action[at + 1 :]]) for at in range(4, 8)]
    same = [(frames == imagine(pixels, other)).flatten(1).all(1).tolist() for other in moved]
    assert same[1][:1] == [True]
    assert same[2][:2] == [True, True]
    assert same[3] == [True, True, True]
    assert not all(map(all, same))


@pytest.mark.parametrize("context_length", [0, 8])
def test_a_context_leaves_something_to_imagine(context_length, make_world_model, make_batch):
    batch, world_model = make_batch(1), make_world_model()
    transition = LatentTransition(world_model, world_model.dynamics)
    with pytest.raises(UsageError, match=f"context_length={context_length} of 8 frames"):
        imagine_observations(transition, batch, context_length)


def test_imagination_is_that_of_the_environment(make_world_model, make_batch):
    """A second witness: the imagined environment, stepped by hand with the same draws."""
    world_model, batch = make_world_model(), make_batch(batch=2, time=8)
    env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=2)
    pixels, action = batch["pixels"][:, :4], batch["action"].float()
    torch.manual_seed(3)
    states, beliefs = imagine_actions(env.transition, env.transition.start(pixels, action[:, :4]), action[:, 4:])
    torch.manual_seed(3)
    with torch.no_grad():
        steps = [env.start(pixels, action[:, :4])]
        for taken in action[:, 4:].unbind(1):
            following = env.step(steps[-1].set("action", taken))["next"]
            steps.append(following.exclude("reward"))
    wanted = TensorDict.stack([step.select("state", "belief") for step in steps], 1)
    assert states.shape[:2] == (2, 5)
    torch.testing.assert_close(states, wanted["state"])
    torch.testing.assert_close(beliefs, wanted["belief"])


def test_frames_are_the_decoders(make_world_model):
    world_model = make_world_model()
    state = torch.eye(12)[:6].reshape(2, 3, 12)
    frames = decode_observations(world_model, state)["pixels"]
    assert (frames.shape, frames.dtype) == ((2, 3, 8, 8, 3), torch.uint8)
    with torch.no_grad():
        wanted = world_model.decoder(state[1, 2])
    assert (frames[1, 2].movedim(-1, 0) / 255 - wanted.clamp(0, 1)).abs().max() < 0.51 / 255


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_imagined_is_like_what_is_observed(kind, make_world_model):
    world_model = make_world_model(**KINDS[kind], marks_starts=True)
    batch = make_batch(world_model)
    imagined = imagine_observations(LatentTransition(world_model, world_model.dynamics), batch, 5)
    assert set(imagined.keys()) == set(world_model.observation_keys)
    for key, entry in imagined.items():
        assert (entry.shape, entry.dtype) == (batch[key][:, 5:].shape, batch[key].dtype)


def test_a_vector_is_in_raw_units(make_world_model):
    world_model, state = make_world_model(**KINDS["mixed"]), torch.eye(12)[:6]
    observation = decode_observations(world_model, state)
    with torch.no_grad():
        wanted = world_model.decoder(state)
    torch.testing.assert_close(symlog(observation["observation"]), wanted["observation"])
    assert observation["pixels"].dtype == torch.uint8


class Plain(torch.nn.Module):
    """Somebody's encoder, with no more than the contract asks for."""

    in_keys = ("observation",)

    def preprocess(self, observation):
        return observation

    def encode(self, frames):
        return frames, frames


def test_an_encoder_without_the_inverse_leaves_vectors_as_they_are(make_world_model):
    world_model = make_world_model(image_shape=None, vector_size=5, encoder=lambda **sizes: Plain())
    state = torch.eye(12)[:6]
    with torch.no_grad():
        wanted = world_model.decoder(state)
    torch.testing.assert_close(decode_observations(world_model, state)["observation"], wanted)
