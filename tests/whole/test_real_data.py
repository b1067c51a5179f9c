"""The world model on real frames, without an agent: pytest -m slow tests/whole/test_real_data.py

2500 updates of 128 frames: as many frames as 156 updates of the paper's 32 x 64.
"""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensordict import TensorDictBase
from torch import Tensor

from tests.support.paths import CONFIGS
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.modules import GLAMWorldModel
from torchrl_glam.modules.latent import sample_one_hot
from torchrl_glam.modules.world_model import LatentTransition
from torchrl_glam.tools.imagination import imagine_observations
from torchrl_glam.tools.pictures.frames import write_imagined

FRAMES, UPDATES, LENGTH, FIRST_VALID = 4000, 2500, 8, 3
BLOCK = 200  # frames in time that are held out together: every fourth block


def small_config() -> GLAMConfig:
    """preset=cpu on Pong, with shorter sequences."""
    options = ["preset=cpu", f"total_frames={FRAMES}", "training.warmup_frames=3999"]
    options += ["replay.batch_size=16", f"replay.batch_length={LENGTH}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return OmegaConf.to_object(compose("glam_atari", options))


@torch.no_grad()
def prediction_errors(world_model: GLAMWorldModel, batch: TensorDictBase) -> tuple[Tensor, Tensor]:
    """Squared errors of the next frame, summed over pixels, for each ``[b t]`` where something moved.

    The first is that of the decoded prior, the second that of the last frame.
    """
    prior = world_model(batch.clone())["prior_logits"][:, FIRST_VALID:-1]
    predicted = world_model.decoder(sample_one_hot(prior).flatten(-2)).movedim(-3, -1)
    frames = batch["pixels"].float() / 255
    last, following = frames[:, FIRST_VALID:-1], frames[:, FIRST_VALID + 1 :]
    moved = ((following - last).abs() > 0.1).flatten(2).any(-1)
    assert moved.float().mean() > 0.5
    errors = [(frame - following).square().sum((-1, -2, -3))[moved] for frame in (predicted, last)]
    return errors[0], errors[1]


@pytest.mark.slow
def test_the_prior_predicts_pong_better_than_the_last_frame_does(tmp_path):
    config = small_config()
    factory.set_seeds(0)
    env = factory.make_env(config)
    world_model = factory.make_world_model(config, env.action_spec, torch.device("cpu"))
    update = factory.make_world_model_update(config, world_model)
    frames = env.rollout(FRAMES, auto_reset=True, break_when_any_done=False)
    is_held_out = torch.arange(FRAMES) // BLOCK % 4 == 3
    held_out = frames[is_held_out].select("pixels", "action")
    sequences, _ = factory.make_replay(config, env, torch.device("cpu"))
    sequences.extend(frames[~is_held_out])

    history = torch.stack([update(sequences.sample())[0] for _ in range(UPDATES)])
    for term in ("loss_reconstruction", "loss_reward", "loss_termination"):
        assert history[term][-50:].mean() < 0.5 * history[term][0]
    predicted, copied = prediction_errors(world_model, held_out.reshape(-1, LENGTH))
    assert predicted.mean() < copied.mean()

    # Imagined over 16 steps, something moves, and where it should: closer to the real frames than a frozen picture is.
    errors, transition = [], LatentTransition(world_model, world_model.dynamics)
    for block in held_out.split(BLOCK):
        window = block[:24]
        real = window["pixels"][8:]
        imagined = imagine_observations(transition, window[None], context_length=8)["pixels"][0]
        assert (imagined[1:].int() - imagined[:-1].int()).abs().flatten(1).amax(1).float().mean() > 20
        errors.append([(frames.float() - real).square().mean() for frames in (imagined, window["pixels"][7])])
    mean_imagined, mean_frozen = torch.tensor(errors).mean(0)
    assert mean_imagined < mean_frozen
    write_imagined(tmp_path / "imagined.png", real, imagined)
