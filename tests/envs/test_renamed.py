"""Our environments under other names: TorchRL's ``RenameTransform``, nested keys, and the losses after ``set_keys``."""

from __future__ import annotations

import pytest
import torch
from torchrl.data import OneHot
from torchrl.envs import RenameTransform, TransformedEnv
from torchrl.envs.utils import check_env_specs

from torchrl_glam.envs import GLAMImaginedEnv, make_atari_env
from torchrl_glam.modules import GLAMDynamics, GLAMWorldModel
from torchrl_glam.objectives import GLAMModelLoss

IMAGINED = {"state": ("latent", "z"), "belief": ("latent", "h"), "reward": "gain"}
REAL = {"pixels": ("camera", "rgb"), "life_loss": ("flags", "life"), "reward": ("score", "points")}
ACTION = ("agent", "command")


def rename(env, names):
    """``env`` with its entries and its action under other names."""
    read = {name: names[name] for name in ("state", "belief") if name in names} | {"action": ACTION}
    transform = RenameTransform([*names], [*names.values()], in_keys_inv=[*read], out_keys_inv=[*read.values()])
    return TransformedEnv(env, transform, auto_unwrap=True)


@pytest.fixture
def imagined_env(make_world_model):
    world_model = make_world_model()
    # No dream ends: in a TransformedEnv, TorchRL would begin another where one does.
    world_model.termination_head.logit.bias.data.fill_(-100.0)
    return GLAMImaginedEnv(world_model, OneHot(3), batch_size=2)


def test_specs_of_the_imagined_env_hold_under_other_names(imagined_env):
    env = rename(imagined_env, IMAGINED)
    assert env.action_key == ACTION
    check_env_specs(env, seed=0)


def test_a_renamed_imagined_env_dreams_the_same(imagined_env):
    def dream(env):
        torch.manual_seed(0)
        return env.rollout(5, break_when_any_done=False)

    wanted, came = dream(imagined_env), dream(rename(imagined_env, IMAGINED))
    places = {**IMAGINED, "action": ACTION} | {("next", name): ("next", key) for name, key in IMAGINED.items()}
    for place, renamed in places.items():
        if place != "reward":
            assert torch.equal(came[renamed], wanted[place]), place


def test_specs_of_atari_hold_under_other_names():
    env = rename(make_atari_env("ALE/Pong-v5", seed=0), REAL)
    check_env_specs(env)
    env.close()


def test_the_loss_finds_the_entries_of_a_renamed_env():
    def loss_of(env, **keys):
        env.set_seed(0)
        torch.manual_seed(0)
        world_model = GLAMWorldModel(6, GLAMDynamics(16), channels=(4, 4, 4, 4), num_categoricals=2, num_classes=4)
        loss = GLAMModelLoss(world_model)
        loss.set_keys(**keys)
        terms = loss(env.rollout(8, break_when_any_done=False).unsqueeze(0))
        env.close()
        return terms

    wanted = loss_of(make_atari_env("ALE/Pong-v5"))
    names = {"pixels": REAL["pixels"], "action": ACTION, "reward": REAL["reward"], "termination": REAL["life_loss"]}
    came = loss_of(rename(make_atari_env("ALE/Pong-v5"), REAL), **names)
    assert (came == wanted).all()
