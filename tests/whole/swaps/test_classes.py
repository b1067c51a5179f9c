"""Losses and backbones of the user's, by their import path."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict, TensorDictParams
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import LossModule

from tests.support.trained import Trained
from torchrl_glam.config import GROUPS
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    SequenceBackbone,
)

HERE = "tests.whole.swaps.test_classes"


class HalfLoss(LossModule):
    """Somebody's loss: REINFORCE on a share of the advantage, without a critic."""

    actor_network: TensorDictModule
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams

    def __init__(self, actor_network, critic_network, share=1.0):
        super().__init__()
        self.convert_to_functional(actor_network, "actor_network")
        self.share = share

    def forward(self, tensordict):
        with self.actor_network_params.to_module(self.actor_network):
            distribution = self.actor_network.get_dist(tensordict)
        log_prob = distribution.log_prob(tensordict["action"])
        return TensorDict({"loss_half": -(self.share * log_prob * tensordict["advantage"].squeeze(-1)).mean()}, [])


class Thirsty(HalfLoss):
    """A loss that reads what nobody wrote."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": tensordict["water"].mean()}, [])


class Declared(HalfLoss):
    """A loss that says so."""

    in_keys = ("action", ("next", "water"))


class Confused(HalfLoss):
    """A loss with a mistake of its own."""

    def forward(self, tensordict):
        return {"mine": 1}["yours"]


class Bare(HalfLoss):
    """A loss that returns a number."""

    def forward(self, tensordict):
        return super().forward(tensordict)["loss_half"]


class Wide(HalfLoss):
    """A loss that is not reduced."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": super().forward(tensordict)["loss_half"].expand(3)}, [])


class Idle(HalfLoss):
    """A loss that depends on nothing."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": torch.tensor(1.0)}, [])


class Delayed(HalfLoss):
    """A loss with target parameters and a parameter of its own."""

    def __init__(self, actor_network, critic_network):
        LossModule.__init__(self)
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.share = nn.Parameter(torch.ones(()))


class Nameless(HalfLoss):
    """A loss whose term has no name of one."""

    def forward(self, tensordict):
        return TensorDict({"half": super().forward(tensordict)["loss_half"]}, [])


class Recurrent(SequenceBackbone):
    """Somebody's backbone: a GRU."""

    def __init__(self, width, num_layers=1):
        super().__init__(width)
        self.gru = nn.GRU(width, width, num_layers, batch_first=True)

    def forward(self, tokens):
        beliefs, hidden = self.gru(tokens)
        return beliefs, TensorDict({"hidden": hidden.transpose(0, 1)}, tokens.shape[:1])

    def step(self, token, memory):
        beliefs, hidden = self.gru(token.unsqueeze(1), memory["hidden"].transpose(0, 1).contiguous())
        return beliefs[:, 0], TensorDict({"hidden": hidden.transpose(0, 1)}, memory.batch_size)

    def initial_memory(self, batch_size):
        weight = next(self.parameters())
        return TensorDict({"hidden": weight.new_zeros(batch_size, self.gru.num_layers, self.width)}, [batch_size])


class Forgetful(Recurrent):
    """A backbone whose step is not its forward."""

    def step(self, token, memory):
        return super().step(token, memory.clone().zero_())


class Stepless(SequenceBackbone):
    """A backbone that lacks a method."""

    forward = Recurrent.forward
    initial_memory = Recurrent.initial_memory


def custom(kind: str, name: str) -> list[str]:
    return [f"{kind}={HERE}.{name}"]


def test_a_loss_by_import_path_with_its_keyword_arguments():
    trained = Trained(*custom("objective", "HalfLoss"), "+objective.kwargs.share=0.5")
    before = copy.deepcopy(trained.actor)
    metrics = trained.update_policy(trained.contexts.sample(), 4)
    assert "loss_half" in metrics.keys()  # noqa: SIM118
    assert any(not torch.equal(*pair) for pair in zip(before.parameters(), trained.actor.parameters(), strict=True))


def test_a_backbone_by_import_path_with_its_keyword_arguments():
    trained = Trained(*custom("dynamics", "Recurrent"), "world_model.dynamics.num_layers=2")
    assert trained.world_model.dynamics.gru.num_layers == 2
    before = copy.deepcopy(trained.world_model.dynamics)
    trained.update()
    after = trained.world_model.dynamics
    assert all(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))
    assert GROUPS["dynamics"].name_of(trained.config.world_model.dynamics) == f"{HERE}.Recurrent"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "objective",
            "Missing",
            r"objective=tests.whole.swaps.test_classes.Missing cannot be imported .*no attribute 'Missing'",
        ),
        ("objective", "Recurrent", "is no subclass of torchrl_glam.*Objective or torchrl.*LossModule"),
        ("objective", "Thirsty", "batch for Thirsty has no .*water.*: add it.*; it has .*action"),
        ("objective", "Declared", "batch for Declared has no .*'next', 'water'"),
        ("objective", "Nameless", "returned half: name what is to be minimised loss_"),
        ("objective", "Bare", "returned a Tensor: a TensorDict of scalars is wanted"),
        ("objective", "Wide", r"loss_half of shape \[3\]: reduce it"),
        ("objective", "Idle", "loss_half of the loss depend on no parameter"),
        ("dynamics", "Missing", "dynamics=tests.whole.swaps.test_classes.Missing cannot be imported"),
        ("dynamics", "HalfLoss", "is no subclass of .*SequenceBackbone"),
        ("dynamics", "Stepless", "Stepless.*step"),
        ("dynamics", "Forgetful", "step.*forward"),
    ],
)
def test_a_class_that_does_not_fit_is_told_what_is_missing(kind, name, message):
    with pytest.raises(UsageError, match=message) as refused:
        Trained(*custom(kind, name)).update()
    assert "\n" not in str(refused.value)


def test_a_key_error_of_the_losss_own_is_left_alone():
    with pytest.raises(KeyError, match="yours"):
        Trained(*custom("objective", "Confused")).update()


def test_target_parameters_and_parameters_of_a_loss_are_moved_and_saved():
    trained = Trained(*custom("objective", "Delayed"))
    nn.init.normal_(trained.world_model.reward_head.logits.weight, std=0.3)  # some reward to learn from
    before = trained.state()
    trained.update_policy(trained.contexts.sample(), 4)
    after = trained.state()
    assert set(after) == {"actor", "critic", "loss"}
    moved = {key for key, value in after["loss"].items() if not torch.equal(value, before["loss"][key])}
    assert "share" in moved
    assert any(key.startswith("target_actor_network_params") for key in moved)


def test_keyword_arguments_that_a_class_does_not_take():
    with pytest.raises(UsageError, match=r"cannot be made as HalfLoss\(.*water=\.\.\.\): .*unexpected keyword"):
        Trained(*custom("objective", "HalfLoss"), "+objective.kwargs.water=1")
