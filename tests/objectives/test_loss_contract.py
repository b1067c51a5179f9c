"""What TorchRL asks of any loss module, asked of ours: keys, parameters, gradients, copies, estimators, compilation.

The checklist is that of TorchRL's own loss tests, written from the documentation of ``LossModule``.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import LossModule, SoftUpdate, ValueEstimators
from torchrl.objectives.value import TD0Estimator

from tests.support.backbones import BACKBONES
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.compilation import COMPILED
from torchrl_glam.modules import make_critic
from torchrl_glam.modules.actor_critic import TwoHotCritic
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss

STATE, WIDTH = 6, 4
OTHER_NAMES = ["other", ("some", "other")]


@dataclass
class Case:
    """A loss to test: how it is made, a batch for it, and where in the batch the keys of ``set_keys`` lie."""

    make: Callable[..., LossModule]
    batch: TensorDict
    places: dict[str, str | tuple[str, str]]

    def run(self, batch: TensorDict | None = None, loss: LossModule | None = None, **keys: Any) -> TensorDict:
        """The terms under one seed."""
        loss = self.make() if loss is None else loss
        loss.set_keys(**keys)
        torch.manual_seed(0)
        return loss(self.batch if batch is None else batch)

    def move(self, name: str, key: str | tuple[str, ...]) -> TensorDict:
        """The batch with the entry of ``name`` elsewhere."""
        place = self.places[name]
        root = ("next",) if place[0] == "next" else ()
        nested = (*root, *(key if isinstance(key, tuple) else (key,)))
        return self.batch.exclude(place).set(nested, self.batch[place])


def make_rollout(batch: int = 2, time: int = 5) -> TensorDict:
    """A random imagined rollout whose next states are no views of its states."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, time, *shape, generator=generator)

    ends = torch.rand(batch, time, 1, generator=generator) < 0.3
    after = {"state": draw(STATE), "belief": draw(WIDTH), "reward": draw(1), "done": ends, "terminated": ends.clone()}
    return TensorDict({"state": draw(STATE), "belief": draw(WIDTH), "next": after}, [batch, time])


@pytest.fixture(params=["model", "critic"])
def case(request, make_world_model, make_batch, shake):
    if request.param == "model":
        batch = make_batch()
        batch["next"] = batch["next"].select("reward", "life_loss")
        places = {"pixels": "pixels", "action": "action", "reward": ("next", "reward")}
        places["termination"] = ("next", "life_loss")
        return Case(lambda: GLAMModelLoss(make_world_model()), batch, places)
    places = {name: ("next", name) for name in ("reward", "done", "terminated")}
    return Case(lambda **options: make_critic_loss(shake, **options), make_rollout(), places)


def make_critic_loss(shake, **options):
    torch.manual_seed(0)
    critic = shake(make_critic(STATE, WIDTH, hidden=8))
    loss = GLAMCriticLoss(critic, **options)
    SoftUpdate(loss, tau=0.1)  # torchrl warns of a loss without one
    change(loss.target_critic_network_params)
    return loss


@torch.no_grad()
def change(module: nn.Module) -> None:
    """Change all that a state dict holds, buffers and slow copies included."""
    for entry in module.state_dict().values():
        if entry.is_floating_point():
            entry.mul_(1.1).add_(0.01)


def assert_same(came: TensorDict, wanted: TensorDict) -> None:
    assert set(came.keys()) == set(wanted.keys())
    for key, value in wanted.items():
        torch.testing.assert_close(came[key], value, rtol=0, atol=0)


# Keys


def test_keys_start_at_their_defaults_and_none_brings_one_back(case):
    loss = case.make()
    for field in fields(loss._AcceptedKeys):
        assert getattr(loss.tensor_keys, field.name) == field.default
        loss.set_keys(**{field.name: "other"})
        assert getattr(loss.tensor_keys, field.name) == "other"
        loss.set_keys(**{field.name: None})
        assert getattr(loss.tensor_keys, field.name) == field.default


def test_an_unknown_key_name_is_refused(case):
    with pytest.raises(ValueError, match="rewards is not an accepted tensordict key"):
        case.make().set_keys(rewards="reward")


@pytest.mark.parametrize("key", OTHER_NAMES, ids=str)
def test_an_entry_may_have_any_name(case, key):
    wanted = case.run()
    for name in case.places:
        moved = case.move(name, key)
        missing = rf"no {re.escape(str(case.places[name]))}: add it, or name yours by loss\.set_keys\({name}="
        with pytest.raises(UsageError, match=missing):
            case.run(moved)
        assert_same(case.run(moved, **{name: key}), wanted)


@pytest.mark.parametrize("key", OTHER_NAMES, ids=str)
def test_all_entries_may_have_other_names_at_once(case, key):
    batch, names = case.batch.clone(), {}
    for name, place in case.places.items():
        names[name] = (*((key,) if isinstance(key, str) else key), name)
        root = ("next",) if place[0] == "next" else ()
        batch.set((*root, *names[name]), batch.pop(place))
    assert_same(case.run(batch, **names), case.run())


def test_the_world_model_sees_its_entries_whatever_their_names(make_world_model, make_batch):
    loss, batch = GLAMModelLoss(make_world_model()), make_batch()
    action = batch.pop("action")
    batch["agent", "move"] = action
    loss.set_keys(action=("agent", "move"))
    _, latents = loss.forward_with_latents(batch)
    assert latents["state"].shape == (2, 8, 12)
    assert torch.equal(latents["action"], action)
    assert "state" not in batch


@pytest.mark.parametrize("key", OTHER_NAMES, ids=str)
def test_what_the_critic_writes_may_have_any_name(shake, key):
    plain, rollout = make_critic_loss(shake), make_rollout()
    wanted = plain.estimate(rollout.clone())
    for name, default in vars(plain.tensor_keys).items():
        if name in ("value_target", "slow_value_target", "advantage"):
            loss = make_critic_loss(shake)
            loss.set_keys(**{name: key})
            estimated = loss.estimate(rollout.clone())
            torch.testing.assert_close(estimated[key], wanted[default])
            assert default not in estimated
            estimated[key] = estimated[key] + 1.0
            assert (loss(estimated)["value_error"] != plain(rollout)["value_error"]) == (name == "value_target"), name


@pytest.mark.parametrize("key", OTHER_NAMES, ids=str)
def test_the_critic_network_may_write_what_it_likes(shake, key):
    def build(logits_key, value_key):
        torch.manual_seed(0)
        network = TwoHotCritic(STATE, WIDTH, hidden=8)
        critic = TensorDictModule(network, in_keys=["state", "belief"], out_keys=[logits_key, value_key])
        loss = GLAMCriticLoss(shake(critic), network.head.bins)
        SoftUpdate(loss, tau=0.1)
        return loss

    rollout = make_rollout()
    wanted = build("state_value_logits", "state_value")(rollout)
    loss = build(key, "value")
    with pytest.raises((AttributeError, KeyError)):
        loss(rollout)
    loss.set_keys(value_logits=key, value="value")
    assert_same(loss(rollout), wanted)


def test_in_keys_are_all_that_is_read(case):
    loss, wanted = case.make(), case.run()
    assert_same(case.run(case.batch.select(*loss.in_keys)), wanted)
    for key in loss.in_keys:
        with pytest.raises(UsageError, match=f"has no {re.escape(str(key))}: add it"):
            case.run(case.batch.exclude(key))
    crowded = case.batch.clone().set("bystander", torch.full((*case.batch.shape, 3), torch.nan))
    crowded["next", "bystander"] = crowded["bystander"]
    crowded["agents"] = {"reward": crowded["bystander"]}
    assert_same(case.run(crowded), wanted)


def test_in_keys_follow_the_names(case):
    loss = case.make()
    loss.set_keys(**{name: ("some", name) for name in case.places})
    renamed = {place: ("some", name) for name, place in case.places.items()}
    wanted = [("next", *renamed[key]) if key[0] == "next" else renamed[key] for key in case.places.values()]
    assert set(wanted) <= set(loss.in_keys)
    assert not set(case.places.values()) & set(loss.in_keys)


# What comes out


def test_out_keys_are_all_that_is_returned(case):
    assert set(case.run().keys()) == set(case.make().out_keys)


def test_losses_carry_a_graph_and_metrics_do_not(case):
    terms = case.run()
    assert terms.batch_size == torch.Size([])
    for key, term in terms.items():
        assert term.shape == torch.Size([])
        assert term.requires_grad == key.startswith("loss_"), key


def test_keyword_and_positional_arguments(case):
    wanted = case.run()
    loss, entries = case.make(), [case.batch[key] for key in case.make().in_keys]
    names = ["_".join(key) if isinstance(key, tuple) else key for key in loss.in_keys]
    for arguments, keywords in (((), dict(zip(names, entries, strict=True))), (entries, {})):
        torch.manual_seed(0)
        came = loss(*arguments, **keywords)
        assert_same(TensorDict(dict(zip(loss.out_keys, came, strict=True))), wanted)


def test_selected_terms_alone(case):
    loss, wanted = case.make(), case.run()
    for keys in (
        ["loss_reward", "loss_dynamics"] if "loss_reward" in loss.out_keys else ["loss_critic", "value_error"],
    ):
        loss.select_out_keys(*keys)
        assert loss.out_keys == keys
        assert_same(case.run(loss=loss), wanted.select(*keys))
        loss.reset_out_keys()
    assert_same(case.run(loss=loss), wanted)


def test_a_seed_gives_the_same_terms_again(case):
    loss = case.make()
    assert_same(case.run(loss=loss), case.run(loss=loss))


def test_the_batch_is_left_as_it_was(case):
    kept = case.batch.clone()
    case.batch.lock_()
    case.run()
    assert set(case.batch.keys(True, True)) == set(kept.keys(True, True))
    assert all(torch.equal(case.batch[key], kept[key]) for key in kept.keys(True, True))


def test_a_lazy_stack_of_steps_is_a_batch(case):
    steps = TensorDict.lazy_stack(list(case.batch.unbind(1)), 1)
    assert_same(case.run(steps), case.run())


@pytest.mark.parametrize("mask", [("collector", "mask"), "shifted_valid"], ids=str)
def test_padding_is_refused_not_learned_from(case, mask):
    batch = case.batch.clone().set(mask, torch.ones(*case.batch.shape, 1, dtype=torch.bool))
    with pytest.raises(UsageError, match="sample without padding"):
        case.run(batch)
    loss = case.make()
    loss.loss_mask_key = None
    assert_same(case.run(batch, loss), case.run())


# Parameters


def test_parameters_have_one_name_each(case):
    parameters = list(case.make().named_parameters())
    assert (
        len({id(parameter) for _, parameter in parameters}) == len({name for name, _ in parameters}) == len(parameters)
    )
    assert not any("target" in name for name, _ in parameters)


def test_every_parameter_learns_and_nothing_else(case):
    loss = case.make()
    terms = case.run(loss=loss)
    sum(term for key, term in terms.items() if key.startswith("loss_")).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None, name
    assert not any(buffer.requires_grad for buffer in loss.buffers())


def test_a_network_can_be_taken_out_and_put_back(case, shake):
    loss = case.make()
    name = "critic_network" if isinstance(loss, GLAMCriticLoss) else "world_model"
    wanted = dict(copy.deepcopy(loss).named_parameters())
    network = copy.deepcopy(loss.get_stateful_net(name))
    shake(loss, seed=2)
    assert not any(torch.equal(parameter, wanted[key]) for key, parameter in loss.named_parameters())
    loss.from_stateful_net(name, network)
    assert all(torch.equal(parameter, wanted[key]) for key, parameter in loss.named_parameters())


def test_parameters_can_be_drawn_anew(case, shake):
    loss = shake(case.make(), scale=10.0)
    before = {name: parameter.clone() for name, parameter in loss.named_parameters()}
    loss.reset_parameters_recursive()
    own = ("A_log", ".D")  # MambaBlock's, see below
    kept = [name for name, parameter in loss.named_parameters() if torch.equal(parameter, before[name])]
    assert [name for name in kept if not name.endswith(own)] == []
    assert all(torch.isfinite(term) for term in case.run(loss=loss).values())


def test_parameters_drawn_anew_start_where_new_ones_do(make_world_model, shake):
    """Zero logits, Mamba's A, D and step sizes: each has a start of its own."""
    loss = GLAMModelLoss(shake(make_world_model(), scale=10.0))
    loss.reset_parameters_recursive()
    world_model = loss.world_model
    for mamba in (
        layer.mamba for branch in ("gmamba", "lmamba") for layer in getattr(world_model.dynamics, branch).layers
    ):
        torch.testing.assert_close(mamba.A_log.exp(), torch.tensor([[1.0, 2.0, 3.0]]).expand(mamba.d_inner, 3))
        assert (mamba.D == 1).all()
        step = nn.functional.softplus(mamba.dt_proj.bias)
        assert ((step > 0.9e-3) & (step < 0.11)).all()
    assert not world_model.reward_head.logits.weight.any()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_drawn_anew_starts_where_a_new_one_does(make_world_model, shake, name):
    loss = GLAMModelLoss(make_world_model(BACKBONES[name](8)))
    fresh = dict(BACKBONES[name](8).named_parameters())
    shake(loss, scale=1e4).reset_parameters_recursive()
    for key, parameter in loss.world_model.dynamics.named_parameters():
        if (fresh[key] == fresh[key].flatten()[0]).all():
            assert torch.equal(parameter, fresh[key]), key
        else:
            assert parameter.abs().max() < 8, key
            assert parameter.std() < 3 * fresh[key].std(), key


def test_a_state_dict_brings_the_terms_back(case):
    loss = case.make()
    wanted, state = case.run(loss=loss), copy.deepcopy(loss.state_dict())
    change(loss)
    came = case.run(loss=loss)
    assert all(came[key] != wanted[key] for key in loss.out_keys)
    loss.load_state_dict(state)
    assert_same(case.run(loss=loss), wanted)
    with pytest.raises(RuntimeError, match="Missing key"):  # tensordict 0.14.3 does not miss a functional network's
        loss.load_state_dict(dict(list(state.items())[:-1]))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["copy", "pickle"]
)
def test_a_copy_gives_the_same_terms_and_shares_nothing(case, copied):
    loss = case.make()
    wanted, twin = case.run(loss=loss), copied(loss)
    if isinstance(twin, GLAMCriticLoss):
        SoftUpdate(twin, tau=0.1)
        twin.load_state_dict(loss.state_dict())  # SoftUpdate starts from a fresh slow copy
    change(loss)
    assert_same(case.run(loss=twin), wanted)


def test_there_and_back_in_another_dtype(case):
    loss = case.make()
    wanted = case.run(loss=loss)
    exact = case.batch.apply(lambda entry: entry.double() if entry.is_floating_point() else entry)
    came = case.run(exact, loss.double())
    assert {parameter.dtype for parameter in loss.parameters()} == {torch.float64}
    for key, term in wanted.items():
        assert came[key].dtype == torch.float64, key
        if isinstance(loss, GLAMCriticLoss):  # the model's draws are others in float64
            torch.testing.assert_close(came[key].float(), term)
    assert_same(case.run(loss=loss.float()), wanted)


@pytest.mark.gpu
def test_on_another_device(case):
    loss = case.make()
    wanted = case.run(loss=loss)
    came = case.run(case.batch.cuda(), loss.cuda())
    assert {term.device.type for term in came.values()} == {"cuda"}
    if isinstance(loss, GLAMCriticLoss):
        for key, term in wanted.items():
            torch.testing.assert_close(came[key].cpu(), term, rtol=1e-4, atol=1e-5)


def test_no_random_module_means_no_vmap_over_draws(case):
    loss = case.make()
    assert loss.vmap_randomness == "error"
    with pytest.raises(ValueError, match="Wrong vmap randomness"):
        loss.set_vmap_randomness("other")


# The return


def test_the_critic_reads_its_return_by_the_names_set(shake):
    names = {"reward": ("agent", "reward"), "done": "over", "terminated": "lost"}
    loss = make_critic_loss(shake)
    loss.set_keys(**names)
    for estimator in (loss.value_estimator, loss.make_value_estimator(gamma=0.5).value_estimator):
        assert {name: getattr(estimator.tensor_keys, name) for name in names} == names


def test_the_return_can_be_changed_as_in_any_loss_of_torchrl(shake):
    loss, rollout = make_critic_loss(shake), make_rollout()
    goes_on = ~rollout["next", "terminated"]
    following = loss.critic_network(rollout["next"].clone())["state_value"]
    one_step = rollout["next", "reward"] + 0.5 * goes_on * following
    for changed in (
        loss.make_value_estimator(ValueEstimators.TDLambda, gamma=0.5, lmbda=0.0),
        loss.make_value_estimator(gamma=0.5),  # keeps lambda
        make_critic_loss(shake, gamma=0.5, lmbda=0.0),
        loss.make_value_estimator(TD0Estimator(gamma=0.5, value_network=None)),
    ):
        torch.testing.assert_close(changed.estimate(rollout.clone())["value_target"], one_step)


def test_other_estimators_are_not_there(case):
    for kind in set(ValueEstimators) - {ValueEstimators.TDLambda}:
        with pytest.raises(NotImplementedError):
            case.make().make_value_estimator(kind)


def test_the_model_has_no_return(make_world_model):
    with pytest.raises(NotImplementedError):
        _ = GLAMModelLoss(make_world_model()).value_estimator


def test_a_critic_without_a_grid_is_refused_unless_one_is_given():
    critic = TensorDictModule(nn.Linear(2, 2), in_keys=["state"], out_keys=["state_value_logits"])
    with pytest.raises(UsageError, match="TensorDictModule has no bins: give the grid of its logits as bins="):
        GLAMCriticLoss(critic)
    assert torch.equal(GLAMCriticLoss(critic, torch.arange(2.0)).bins, torch.arange(2.0))


# Compilation


@pytest.mark.slow
def test_compiled_terms_and_gradients_are_the_same(case):
    loss = case.make()
    compiled = torch.compile(loss, **COMPILED)

    def gradients(run: Callable[[TensorDict], TensorDict]) -> tuple[TensorDict, dict[str, torch.Tensor]]:
        loss.zero_grad()
        torch.manual_seed(0)
        terms = run(case.batch)
        sum(term for key, term in terms.items() if key.startswith("loss_")).backward()
        return terms.detach(), {name: parameter.grad.clone() for name, parameter in loss.named_parameters()}

    (wanted, slopes), (came, compiled_slopes) = gradients(loss), gradients(compiled)
    for key in loss.out_keys:
        torch.testing.assert_close(came[key], wanted[key], rtol=1e-4, atol=1e-5)
    for name, slope in slopes.items():
        torch.testing.assert_close(compiled_slopes[name], slope, rtol=1e-3, atol=1e-4, msg=name)
