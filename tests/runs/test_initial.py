"""A run that begins with another's weights: what fits is taken, the rest is named."""

from __future__ import annotations

import pytest
import torch
from torchrl.data import OneHot

from tests.support.saved import save_run
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint import read_weights
from torchrl_glam.runs.glam import GLAMRun
from torchrl_glam.runs.initial import InitialWeights, read_initial
from torchrl_glam.runs.loading import load_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initial") / "run"
    save_run(folder)
    return folder


def make(saved, shake, action_size=None):
    """Networks of that run's sizes with other weights, for an environment with so many actions; their losses."""
    config = load_run(saved, trust=True).config
    spec = OneHot(action_size or load_run(saved, trust=True).action_spec.shape[-1])
    world_model = shake(factory.make_world_model(config, spec, torch.device("cpu")))
    actor = factory.make_actor(config, world_model, spec)
    objective = factory.make_objective(config, factory.make_imagined_env(config, world_model, spec), actor)
    return {"world_model": world_model, **objective.networks}, objective.losses


def test_everything_fits_the_same_game(saved, shake):
    networks, losses = make(saved, shake)
    line = InitialWeights(str(saved), ["world_model", "actor", "critic"]).copy_to(networks, losses)
    assert line.startswith(f"begins with the weights of {saved} (step 150): world_model ")
    assert "drawn anew" not in line
    for name, own in read_weights(saved / "weights.safetensors").networks.items():
        for key, tensor in networks[name].state_dict().items():
            assert torch.equal(tensor, own[key]), key
    slow = losses[1].target_critic_network_params.flatten_keys()
    now = losses[1].critic_network_params.flatten_keys()
    assert all(torch.equal(slow[key], now[key]) for key in now.keys())  # noqa: SIM118 (iterates over the first dimension)


def test_another_number_of_actions_leaves_out_what_reads_or_writes_them(saved, shake):
    networks, losses = make(saved, shake, action_size=7)
    critic = {key: tensor.clone() for key, tensor in networks["critic"].state_dict().items()}
    line = InitialWeights(str(saved), ["world_model", "actor"]).copy_to(networks, losses)
    assert "drawn anew: actor." in line
    assert line.count("[7") == 2, line
    assert "world_model.embedding.layers.0.weight is [16, 71] here, [16, 67] there" in line
    assert all(torch.equal(critic[key], tensor) for key, tensor in networks["critic"].state_dict().items())


def test_nothing_that_fits(saved, shake):
    networks, losses = make(saved, shake)
    with pytest.raises(UsageError, match="nothing of critic fits: leave it out"):
        InitialWeights(str(saved), ["critic"]).copy_to({"world_model": networks["world_model"]}, losses)


@pytest.mark.parametrize("folder", ["nowhere", ""])
def test_no_weights(folder, tmp_path):
    with pytest.raises(UsageError, match=r"^init_from=.*; give the folder of a run or an export$"):
        InitialWeights(str(tmp_path / folder), ["actor"])


def test_a_run_without_them_leaves_no_folder(tmp_path):
    config = GLAMConfig(init_from=str(tmp_path / "nowhere"), run_dir=str(tmp_path / "run"))
    with pytest.raises(UsageError, match="there is no such folder"):
        GLAMRun(config)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_checkpoint_begins_with_its_own(tmp_path):
    config = GLAMConfig(init_from=str(tmp_path / "nowhere"), run_dir=str(tmp_path))
    (tmp_path / "checkpoints" / "checkpoint-000000000100").mkdir(parents=True)
    assert read_initial(config) is None
