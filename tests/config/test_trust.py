"""Import paths that somebody else's options or dataset name: found at any depth, refused without the user's word."""

from __future__ import annotations

import json

import gymnasium
import pytest
from omegaconf import OmegaConf

from tests.support.configs import load
from torchrl_glam.config.trust import check_trust, env_import, option_imports, spec_imports
from torchrl_glam.errors import UsageError

CART_POLE = json.loads(gymnasium.spec("CartPole-v1").to_json())


def plain(*options: str) -> dict:
    return OmegaConf.to_container(OmegaConf.structured(load(*options)))


@pytest.mark.parametrize("options", [[], ["dynamics=storm", "objective=ppo"], ["env.name=CartPole-v1"]])
def test_the_packages_own_parts_need_no_trust(options):
    assert option_imports(plain("preset=debug", *options)) == {}


def test_whatever_would_be_imported_is_found():
    options = plain("preset=debug", "env.name=mine.games:Game-v0")
    options["world_model"]["dynamics"]["_target_"] = "mine.Backbone"
    options["model_loss"]["_target_"] = "os.system"
    options["objective"]["loss"] = "losses:Mine"
    options["objective"]["kwargs"] = {"deep": [{"_target_": "torchrl_glam.runs.checkpoint.checkpoints.shutil.rmtree"}]}
    options["world_model"]["encoder"]["_target_"] = "torchrl.envs.R3MTransform"
    assert option_imports(options) == {
        "env.name": "mine.games",
        "world_model.dynamics": "mine.Backbone",
        "model_loss": "os.system",
        "objective.loss": "losses:Mine",
        "objective.kwargs.deep": "torchrl_glam.runs.checkpoint.checkpoints.shutil.rmtree",
        "world_model.encoder": "torchrl.envs.R3MTransform",
    }


def test_environments():
    names = ("ALE/Pong-v5", "gymnasium:CartPole-v1", "my own game", "os:CartPole-v1")
    found = {name: env_import(name) for name in names}
    assert found == {"ALE/Pong-v5": None, "gymnasium:CartPole-v1": None, "my own game": None, "os:CartPole-v1": "os"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, {}),
        ({"id": "mine:CartPole-v1"}, {"env_spec.id": "mine"}),
        ({"id": "Mine-v0"}, {"env_spec.entry_point": CART_POLE["entry_point"]}),
        ({"entry_point": "gymnasium:make", "kwargs": {"id": "mine:Game"}}, {"env_spec.entry_point": "gymnasium:make"}),
        ({"vector_entry_point": "os:system"}, {"env_spec.vector_entry_point": "os:system"}),
    ],
)
def test_specifications(change, found):
    spec = {**CART_POLE, "vector_entry_point": gymnasium.spec("CartPole-v1").vector_entry_point, **change}
    if "Mine-v0" in str(change):
        found = {**found, "env_spec.vector_entry_point": spec["vector_entry_point"]}
    assert spec_imports(spec) == found


@pytest.mark.parametrize(
    ("path", "trusted"),
    [
        ("gymnasium.wrappers.common:TimeLimit", True),
        ("gymnasium.wrappers.rendering:RecordVideo", False),
        ("os:system", False),
        ("gymnasium.envs.registration:make", False),
    ],
)
def test_wrappers(path, trusted):
    spec = {**CART_POLE, "additional_wrappers": [{"name": "One", "entry_point": path, "kwargs": {}}]}
    spec["vector_entry_point"] = gymnasium.spec("CartPole-v1").vector_entry_point
    assert spec_imports(spec) == ({} if trusted else {"env_spec.additional_wrappers": path})


def test_the_refusal_lists_everything_and_says_what_to_do():
    imports = {"env.name": "mine.games", "objective.loss": "losses\x1b[2J.Mine"}
    with pytest.raises(UsageError) as refused:
        check_trust("runs/a/config.yaml", imports, trust=False)
    for part in (
        "runs/a/config.yaml",
        "'mine.games' (env.name)",
        r"'losses\x1b[2J.Mine' (objective.loss)",
        "trust=true",
    ):
        assert part in str(refused.value)
    check_trust("runs/a/config.yaml", imports, trust=True)
    check_trust("the dataset", {"env_spec.entry_point": "mine.games:Game"}, False, named=["mine:Game-v0"])
