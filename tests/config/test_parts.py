"""Nodes made of constructors, and classes of the user's in the place of each part."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import get_method
from omegaconf import OmegaConf
from torch import nn

from tests.support.trained import SMALL, Trained
from tests.whole.test_switches import load
from torchrl_glam import factory
from torchrl_glam.config import GROUPS, GLAMConfig
from torchrl_glam.config.checks import check_config
from torchrl_glam.config.flat import plain_options
from torchrl_glam.config.parts import SCHEMES, node_from_path
from torchrl_glam.errors import UsageError
from torchrl_glam.factory.updates import check_objective
from torchrl_glam.modules.autoencoders import ImageDecoder, ImageEncoder
from torchrl_glam.modules.heads import check_reward_head
from torchrl_glam.runs.estimate import estimate_run
from torchrl_glam.runs.loading import read_options
from torchrl_glam.training import GLAMObjective, OnPolicyObjective

HERE = "tests.config.test_parts"
CLASSES = "tests.whole.swaps.test_classes"


class DeepEncoder(ImageEncoder):
    """Somebody's encoder, with an option of its own."""

    def __init__(self, *, depth: int = 1, **options) -> None:
        super().__init__(**options)
        self.depth = depth


class PlainDecoder(ImageDecoder):
    """Somebody's decoder."""

    def __init__(self, image_shape, channels, state_size, scale: float = 1.0) -> None:
        super().__init__(image_shape, channels, state_size)
        self.scale = scale


class RegressionHead(nn.Module):
    """Somebody's reward head: one number, its squared error."""

    def __init__(self, inputs: int, hidden: int, factor: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.factor = factor

    def forward(self, inputs):
        return self.layers(inputs)

    def decode(self, logits):
        return logits

    def loss(self, logits, target):
        return self.factor * (logits - target).square().mean()


class Patient(GLAMObjective):
    """Somebody's objective: GLAM's with a share of the entropy."""

    def __init__(self, *inputs, patience: float = 0.5, **options) -> None:
        super().__init__(*inputs, **options)
        self.patience = patience


class Crowded(nn.Module):
    """A class whose signature says nothing of its options."""

    def __init__(self, *layers: int) -> None:
        super().__init__()


PARTS = [(group, part) for group in GROUPS.values() for part in group.choices.values()]
PARTS += [(GROUPS["objective"], objective) for objective in SCHEMES.values()]


@pytest.mark.parametrize(("group", "part"), PARTS, ids=[part.__name__ for _, part in PARTS])
def test_a_node_has_the_options_of_the_signature_and_their_defaults(group, part):
    node = OmegaConf.to_object(OmegaConf.structured(group.node(part)))
    found = {name: value for name, value in vars(node).items() if not name.startswith("_")}
    parameters = inspect.signature(part).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    wanted = {each.name: each.default for each in named if each.name not in (*group.given, "self")}
    assert found == {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()}
    assert get_method(node._target_) is part
    assert getattr(node, "_partial_", False) == group.partial


@pytest.mark.parametrize("group", GROUPS)
def test_every_part_is_called_by_its_name(group):
    for name, part in GROUPS[group].choices.items():
        assert GROUPS[group].name_of(GROUPS[group].node(part)) == name


@pytest.mark.parametrize("name", ["glam", "a2c", "ppo", "reinforce", "dreamer_v3", "discrete_sac"])
def test_an_objective_is_called_by_its_name(name):
    assert GROUPS["objective"].name_of(load(f"objective={name}").objective) == name


def test_an_encoder_of_ones_own():
    trained = Trained(f"encoder={HERE}.DeepEncoder", "world_model.encoder.depth=3")
    assert (type(trained.world_model.encoder), trained.world_model.encoder.depth) == (DeepEncoder, 3)
    assert torch.isfinite(trained.update()["grad_norm"])


def test_a_decoder_of_ones_own():
    trained = Trained(f"decoder={HERE}.PlainDecoder", "world_model.decoder.scale=2")
    assert (type(trained.world_model.decoder), trained.world_model.decoder.scale) == (PlainDecoder, 2.0)


def test_a_reward_head_of_ones_own_owns_its_loss():
    trained = Trained(f"reward_head={HERE}.RegressionHead", "world_model.reward_head.factor=0")
    terms, _ = trained.update_world_model(trained.sequences.sample())
    assert terms["loss_reward"] == 0
    before = trained.world_model.reward_head.layers[0].weight.clone()
    trained = Trained(f"reward_head={HERE}.RegressionHead", "world_model.reward_head.factor=3")
    trained.update()
    assert not torch.equal(before, trained.world_model.reward_head.layers[0].weight)


WRONG_HEADS = {
    "no_time": ("forward", lambda head, x: head.layers(x).sum(1), "forward returned [2, 1], where floats [2 3 *] are"),
    "flat": ("decode", lambda head, x: x[..., 0], "decode returned [2, 3], where floats [2 3 1] are wanted"),
    "whole": ("decode", lambda head, x: x.long(), "decode returned Tensor, where floats [2 3 1] are wanted"),
    "each": ("loss", lambda head, x, target: (x - target).square(), "loss returned [2, 3, 1], where floats [] are"),
    "blind": ("loss", lambda head, x, target: target.mean(), "its loss depends on no parameter"),
    "wrong": ("loss", lambda head, x, target: x[7].mean(), "loss raised IndexError: index 7 is out of bounds"),
}


@pytest.mark.parametrize("name", WRONG_HEADS)
def test_a_reward_head_that_cannot_work_is_refused_before_the_run(name):
    method, wrong, said = WRONG_HEADS[name]
    head = type("Head", (RegressionHead,), {method: wrong})(8, 16)
    before = torch.get_rng_state()
    with pytest.raises(UsageError, match=re.escape(said)):
        check_reward_head(head, 8)
    assert torch.equal(before, torch.get_rng_state())


def break_objective(**changes):
    """An objective like GLAM's but for these attributes, as the factory checks it."""
    return SimpleNamespace(**{"networks": {"actor": nn.Linear(1, 1)}, "losses": [], "critic": None, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": None}, "sets no networks"),
        ({"networks": {}}, "sets no networks"),
        ({"networks": {"actor": 3}}, "networks['actor'] is no torch.nn.Module"),
        ({"losses": nn.Linear(1, 1)}, "sets no losses"),
    ],
)
def test_an_objective_that_lacks_a_part_is_refused_before_the_run(changes, said):
    node = SimpleNamespace(name="", _target_=f"{HERE}.Mine")
    with pytest.raises(UsageError, match=re.escape(f"objective={HERE}.Mine")) as error:
        check_objective(node, break_objective(**changes))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (lambda self, data, horizon: iter(()), "yields no terms"),
        (lambda self, data, horizon: iter([3]), "the loss returned a int"),
        (lambda self, data, horizon: iter([data["nothing"]]), "cannot take a step: KeyError"),
    ],
)
def test_an_objective_whose_terms_are_wrong_is_refused_before_the_run(terms, said, monkeypatch):
    monkeypatch.setattr(Patient, "terms", terms)
    config = load(*SMALL, f"objective={HERE}.Patient")
    with pytest.raises(UsageError, match=said):
        estimate_run(config, factory.make_env(config), torch.device("cpu"), patience=0.0)


def test_an_objective_of_ones_own():
    trained = Trained(f"objective={HERE}.Patient", "objective.patience=0.25")
    assert (type(trained.update_policy.objective), trained.update_policy.objective.patience) == (Patient, 0.25)
    assert torch.isfinite(trained.update()["grad_norm"])
    assert GROUPS["objective"].name_of(trained.config.objective) == f"{HERE}.Patient"


def test_a_loss_module_becomes_an_on_policy_objective_over_it():
    config = load("objective=torchrl.objectives.ClipPPOLoss", "objective.epochs=2")
    assert get_method(config.objective._target_) is OnPolicyObjective
    assert (config.objective.loss, config.objective.epochs) == ("torchrl.objectives.ClipPPOLoss", 2)
    assert GROUPS["objective"].name_of(config.objective) == "torchrl.objectives.ClipPPOLoss"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([f"reward_head={HERE}.Crowded"], "Crowded"),
        (["reward_head=torch.nn.Linear"], "the reward head Linear lacks loss, decode"),
        (["encoder=torch.nn.Identity"], "encoder.*Identity"),
        ([f"encoder={HERE}.Patient"], "is no subclass of torch.nn.*Module: make it one"),
    ],
)
def test_a_class_that_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        Trained(*options)
    assert "\n" not in str(refused.value)


OWN = [
    f"dynamics={CLASSES}.Recurrent",
    f"encoder={HERE}.DeepEncoder",
    f"reward_head={HERE}.RegressionHead",
    f"objective={HERE}.Patient",
]


@pytest.mark.parametrize(
    "options",
    [[], ["dynamics=storm", "objective=discrete_sac"], [f"objective={CLASSES}.HalfLoss"], OWN],
    ids=["default", "named", "loss", "own"],
)
def test_a_saved_config_loads_back(tmp_path, options):
    config = load("preset=debug", *options)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    loaded = read_options(tmp_path, GLAMConfig, "this test", check_config, trust=True)
    assert loaded == config
    assert plain_options(loaded) == plain_options(config)
    for group in GROUPS.values():
        assert group.name_of(OmegaConf.select(OmegaConf.structured(loaded), group.place)) == group.name_of(
            OmegaConf.select(OmegaConf.structured(config), group.place)
        )


def test_a_saved_config_of_a_class_that_is_gone_is_refused(tmp_path):
    config = load("preset=debug", f"dynamics={CLASSES}.Recurrent")
    text = OmegaConf.to_yaml(OmegaConf.structured(config)).replace("Recurrent", "Gone")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"Gone cannot be imported"):
        read_options(tmp_path, GLAMConfig, "this test", check_config, trust=True)


def test_a_node_of_a_path_is_that_of_the_name():
    node, named = node_from_path("dynamics", "torchrl_glam.modules.TransformerDynamics"), load("dynamics=storm")
    assert node() == named.world_model.dynamics
