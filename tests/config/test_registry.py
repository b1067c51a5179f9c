"""Our parts in Hydra files beside TorchRL's: same fields as the classes, composed, built, run."""

from __future__ import annotations

import abc
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from torchrl.data import SliceSampler

from torchrl_glam.config import registry
from torchrl_glam.config.registry import PARTS, PartConfig
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMPolicy, TransformerDynamics
from torchrl_glam.objectives import GLAMModelLoss, total_loss

TORCHRL_CONFIGS = "torchrl.trainers.algorithms.configs"

FILE = """
defaults:
  - env@env: glam_atari
  - model@world_model: glam_world_model
  - network@world_model.dynamics: glam_dynamics
  - loss@model_loss: glam_model
  - env@imagined_env: glam_imagined
  - model@actor: glam_actor
  - model@critic: glam_critic
  - model@policy: glam_policy
  - loss@critic_loss: glam_critic
  - collector: sync
  - replay_buffer: tensordict
  - storage@replay_buffer.storage: lazy_tensor
  - sampler@replay_buffer.sampler: slice
  - optimizer: adam
  - target_net_updater: soft
  - _self_

env:
  name: ALE/Pong-v5
  seed: 0
world_model:
  action_size: 6
  channels: [4, 8, 8, 8]
  num_categoricals: 4
  num_classes: 4
  dynamics: {width: 16, d_state: 4}
imagined_env: {batch_size: 4, _partial_: true}
actor: {state_size: 16, width: 16, hidden: 8, _partial_: true}
policy: {_partial_: true}
model_loss: {_partial_: true}
critic: {state_size: 16, width: 16, hidden: 8}
replay_buffer:
  batch_size: 16
  storage: {max_size: 100}
  sampler: {slice_len: 8, truncated_key: null}  # torchrl 0.14.1 cannot read its own default, which is a list by then
collector:
  create_env_fn: ${env}
  frames_per_batch: 30
  total_frames: 30
  auto_register_policy_transforms: true
optimizer: {lr: 1.0e-3}
target_net_updater: {tau: 0.02}
"""


@pytest.fixture(scope="module", autouse=True)
def torchrls_configs() -> Iterator[None]:
    """Registers TorchRL's configs, and ours after them, for this file alone: ``logger`` is a group of theirs."""
    groups = ConfigStore.instance().repo
    kept = {"hydra", *groups}
    importlib.import_module(TORCHRL_CONFIGS)._register_configs()
    registry.register()
    yield
    for group in groups.keys() - kept:
        del groups[group]


@pytest.fixture
def read(tmp_path):
    """A function that composes a Hydra file."""

    def compose_file(text: str, *overrides: str) -> Any:
        (tmp_path / "file.yaml").write_text(text)
        with initialize_config_dir(str(tmp_path), version_base=None):
            return compose("file", overrides=list(overrides))

    return compose_file


def parameters_of(part: Any) -> dict[str, Any]:
    """Parameters and defaults of a class or function; ``???`` where there is none."""
    found = {}
    # Of the class itself, an env's metaclass would hide them.
    signature = inspect.signature(part.__init__ if inspect.isclass(part) else part)
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        default = "???" if parameter.default is parameter.empty else parameter.default
        found[parameter.name] = list(default) if isinstance(default, tuple) else default
    return found


def node_at(place: tuple[str, str]) -> Any:
    """The node under its group and name."""
    return ConfigStore.instance().load("{}/{}.yaml".format(*place)).node


@pytest.mark.parametrize("place", PARTS, ids="/".join)
def test_fields_are_the_parameters(place):
    config = node_at(place)
    part = get_object(config._target_)
    assert part is PARTS[place]
    entries = OmegaConf.to_container(config)
    for field in ("_target_", *(field.name for field in fields(PartConfig))):
        entries.pop(field)
    assert config._target_.split(".")[::2] == ["torchrl_glam", part.__name__], "its public place"
    wanted = parameters_of(part)
    for name, value in wanted.items():
        if callable(value):  # the class of a part inside
            assert get_object(entries.pop(name)["path"]) is value
    assert entries == {name: value for name, value in wanted.items() if not callable(value)}


def test_the_package_itself_imports_no_torch():
    command = "import sys, torchrl_glam; print('torch' in sys.modules or 'torchrl' in sys.modules)"
    came = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert came.stdout.strip() == "False", came.stderr


def test_ours_count_as_torchrls_configs_once_those_are_there(monkeypatch):
    class ConfigBase(metaclass=abc.ABCMeta):  # noqa: B024 (as TorchRL's)
        pass

    monkeypatch.delitem(sys.modules, f"{TORCHRL_CONFIGS}.common")
    registry.register()
    assert not issubclass(PartConfig, ConfigBase)
    monkeypatch.setitem(sys.modules, f"{TORCHRL_CONFIGS}.common", SimpleNamespace(ConfigBase=ConfigBase))
    registry.register()
    assert issubclass(OmegaConf.get_type(node_at(("env", "glam_atari"))), ConfigBase)


def test_a_file_of_torchrls_parts_and_ours_is_built_and_trains(read):
    """Collector, replay, optimizer and slow copy are TorchRL's; env, model, policy and losses ours."""
    torch.manual_seed(0)
    config = read(FILE)
    env = instantiate(config.env)
    world_model = instantiate(config.world_model).eval()
    model_loss = instantiate(config.model_loss)(world_model=world_model)
    actor = instantiate(config.actor)(action_spec=env.action_spec)
    policy = instantiate(config.policy)(world_model=world_model, actor=actor, action_spec=env.action_spec)
    assert type(policy) is GLAMPolicy
    replay = instantiate(config.replay_buffer)
    assert isinstance(replay._sampler, SliceSampler)
    collector = instantiate(config.collector, policy=policy)
    for data in collector:
        replay.extend(data.reshape(-1))
    collector.shutdown()

    optimizer = instantiate(config.optimizer)(model_loss.parameters())
    before = world_model.encoder.head.weight.clone()
    terms = model_loss(replay.sample().reshape(2, 8))
    total_loss(terms).backward()
    optimizer.step()
    assert (world_model.encoder.head.weight != before).any()

    imagined = instantiate(config.imagined_env)(world_model=world_model, action_spec=env.action_spec)
    assert type(imagined) is GLAMImaginedEnv
    assert imagined.batch_size == (4,)
    critic = instantiate(config.critic)
    critic_loss = instantiate(config.critic_loss, critic_network=critic)
    updater = instantiate(config.target_net_updater)(critic_loss)
    rollout = imagined.imagine(imagined.reset(), actor, 5)
    total_loss(critic_loss(rollout.detach())).backward()
    updater.step()
    env.close()


def test_what_is_nested_is_built_with_the_loss(read, make_batch):
    text = """
defaults:
  - loss: glam_model
  - model@loss.world_model: glam_world_model
  - network@loss.world_model.dynamics: glam_transformer_dynamics
  - _self_
loss:
  variation_coeff: 0.0
  world_model:
    action_size: 3
    image_shape: [8, 8, 3]
    channels: [4, 6]
    dynamics: {width: 16, num_heads: 2}
"""
    loss = instantiate(read(text, "loss.world_model.num_classes=5").loss)
    assert type(loss) is GLAMModelLoss
    assert type(loss.world_model.dynamics) is TransformerDynamics
    assert loss.world_model.latent_shape == (32, 5)
    assert type(loss.world_model.encoder.num_features) is int
    assert all(torch.isfinite(term) for term in loss(make_batch()).values())
    partial = instantiate(read(text, "loss._partial_=true", "loss.world_model._partial_=true").loss)
    assert partial.keywords["variation_coeff"] == 0.0


def test_an_object_can_be_handed_over(read, make_world_model):
    world_model = make_world_model()
    config = read("defaults:\n  - loss: glam_model\n").loss
    assert instantiate(config, world_model=world_model).world_model is world_model


def test_our_block(read):
    block = instantiate(read("defaults:\n  - network: glam_mamba_block\n  - _self_\nnetwork: {d_model: 8}\n").network)
    assert block(torch.randn(2, 5, 8))[0].shape == (2, 5, 8)


def test_an_unknown_field_is_refused(read):
    with pytest.raises(Exception, match="free_nat"):
        read("defaults:\n  - loss: glam_model\n  - _self_\nloss:\n  free_nat: 1.0\n")
