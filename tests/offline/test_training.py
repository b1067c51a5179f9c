"""One update on windows, compared with values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, OneHot

from torchrl_glam.errors import UsageError
from torchrl_glam.offline.config import MODELS, DecisionLoss, DecisionMemory, OfflineConfig
from torchrl_glam.offline.factory import (
    check_offline_config,
    make_decision_network,
    make_decision_update,
    resolve_loss,
    target_fractions,
)
from torchrl_glam.offline.training import decay_groups, rate

CONTINUOUS = Bounded(-2.0, 2.0, shape=(2,))
DISCRETE = OneHot(3)
SPECS = {"continuous": CONTINUOUS, "discrete": DISCRETE}
LOSSES = ("loss_action", "loss_bc", "loss_log_likelihood")


def make_windows(spec, batch=4, time=5, seed=0):
    """Windows [b t] of noise, the last two steps of the first one padding."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.randn(batch, time, spec.shape[-1], generator=generator).clamp(-1.9, 1.9)
    if not spec.dtype.is_floating_point:
        action = nn.functional.one_hot(action.argmax(-1), spec.shape[-1]).float()
    mask = torch.ones(batch, time, 1, dtype=torch.bool)
    mask[0, -2:] = False
    return TensorDict(
        {
            "observation": torch.randn(batch, time, 3, generator=generator),
            "action": action,
            "return_to_go": torch.randn(batch, time, 1, generator=generator),
            "time_step": torch.arange(time).reshape(1, time, 1).expand(batch, time, 1).clone(),
            "collector": {"mask": mask},
        },
        batch_size=[batch, time],
    )


def make_config():
    """The defaults."""
    return OfflineConfig(dataset="none", model=MODELS["mambadm"]())


def make(model="mambadm", kind="continuous", loss="auto", **options):
    """A network and its update."""
    torch.manual_seed(0)
    sizes = MODELS[model](width=16, num_layers=1, context=5)
    config = OfflineConfig(dataset="none", model=sizes, objective=DecisionLoss(loss), total_updates=20)
    config.optimizer.warmup_updates = 2
    for name, value in options.items():
        setattr(config.optimizer, name, value)
    spec = SPECS[kind]
    network = make_decision_network(config, (3,), spec)
    return network, make_decision_update(config, network, spec)


@pytest.mark.parametrize(
    ("kind", "loss"), [("continuous", "dt"), ("continuous", "online_dt"), ("continuous", "bc"), ("discrete", "bc")]
)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_by_every_loss(model, kind, loss):
    actor, update = make(model, kind, loss, lr=1e-2)
    windows = make_windows(SPECS[kind])
    terms = [update(windows) for _ in range(20)]
    losses = [next(value for key, value in step.items() if key in LOSSES) for step in terms]
    assert losses[-1] < losses[0]
    assert all(
        parameter.grad is not None for name, parameter in actor.named_parameters() if name.endswith("head.weight")
    )


def test_the_squared_error_by_hand():
    network, update = make()
    windows = make_windows(CONTINUOUS)
    parameter = network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))
    valid = windows["collector", "mask"].squeeze(-1)
    wanted = (2 * parameter.tanh() - windows["action"])[valid].square().mean()  # bounds of -2 and 2
    torch.testing.assert_close(update.loss(windows)["loss"], wanted)


def test_the_cross_entropy_by_hand():
    network, update = make(kind="discrete")
    windows = make_windows(DISCRETE)
    logits = network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step")))
    valid = windows["collector", "mask"].squeeze(-1)
    wanted = nn.functional.cross_entropy(logits[valid], windows["action"].argmax(-1)[valid])
    torch.testing.assert_close(update.loss(windows)["loss_bc"], wanted)


def test_dropout_is_only_for_training():
    network, update = make()
    windows = make_windows(CONTINUOUS)
    assert update.loss(windows)["loss"] == update.loss(windows)["loss"]
    network.train()
    assert update.loss(windows)["loss"] != update.loss(windows)["loss"]
    update(windows)
    assert not network.training
    assert update.loss(windows)["loss"] == update.loss(windows)["loss"]


def test_the_rate_rises_and_falls():
    shares = [rate(update, 4, 12) for update in range(13)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[4] == 1.0
    assert shares[8] == pytest.approx(0.5)
    assert shares[10] == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))
    assert shares[12] == pytest.approx(0.0)
    assert rate(0, 0, 5) == 1.0


def test_the_update_follows_the_rate():
    _, update = make(lr=0.5)
    rates = [update(make_windows(CONTINUOUS))["learning_rate"].item() for _ in range(3)]
    assert rates == pytest.approx([0.25, 0.5, 0.5])


def test_only_matrices_decay():
    actor, _ = make("mambadm")
    decayed, exempt = decay_groups(actor, 0.1)
    names = {id(parameter): name for name, parameter in actor.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert exempt["weight_decay"] == 0
    assert len(decayed["params"]) + len(exempt["params"]) == len(names)
    for parameter in decayed["params"]:
        assert names[id(parameter)].endswith(".weight")
        assert "norm" not in names[id(parameter)]
        assert "time" not in names[id(parameter)]
    left = {names[id(parameter)].rsplit(".", 1)[-1] for parameter in exempt["params"]}
    assert {"A_log", "D", "bias"} <= left


@pytest.mark.parametrize("loss", ["auto", "online_dt"])
def test_an_update_resumes_exactly(loss):
    batches = [make_windows(CONTINUOUS, seed=seed) for seed in range(6)]
    actor, update = make(loss=loss)
    for batch in batches[:3]:
        update(batch)
    weights, state, random = _copy(dict(actor.state_dict())), _copy(update.state_dict()), torch.get_rng_state()
    other, resumed = make(loss=loss)
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    for update_of in (update, resumed):
        torch.set_rng_state(random)
        for batch in batches[3:]:
            update_of(batch)
    for name, value in actor.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert _equal(update.state_dict(), resumed.state_dict())


def test_the_gradient_is_bounded():
    actor, update = make(max_norm=1e-8)
    update.optimizer = update.schedule.optimizer = torch.optim.SGD(actor.parameters(), lr=1.0)
    update.schedule = torch.optim.lr_scheduler.ConstantLR(update.optimizer, 1.0)
    before = [parameter.clone() for parameter in actor.parameters()]
    assert update(make_windows(CONTINUOUS))["grad_norm"] > 1e-4
    moved = torch.stack([(a - b).norm() for a, b in zip(before, actor.parameters(), strict=True)]).norm()
    assert moved < 2e-8 + 1e-6


def test_the_best_of_the_targets_stands_for_behaviour_cloning():
    config = make_config()
    assert target_fractions(config) == [0.25, 0.5, 0.75, 1.0]
    config.model = MODELS["bc"]()
    assert target_fractions(config) == [1.0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model.width": 0}, "model.width=0: give a whole number of at least 1"),
        ({"optimizer.warmup_updates": 100_000}, "must be below total_updates=100000"),
        ({"batch_size": 0}, "batch_size=0: give"),
        ({"optimizer.lr": -1.0}, "optimizer.lr=-1.0: give a finite number of at least 0"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr=nan: give a finite number of at least 0"),
        ({"evaluation.targets": []}, "evaluation.targets=[]: give"),
        ({"evaluation.targets": [float("nan")]}, "evaluation.targets"),
        ({"model.dropout": 1.5}, "model.dropout=1.5"),
        ({"data.fraction": 1.5}, "data.fraction=1.5"),
        ({"resume": "maybe"}, "resume=maybe"),
    ],
)
def test_bad_options_are_refused(change, line):
    config = make_config()
    for path, value in change.items():
        *groups, name = path.split(".")
        node = config
        for group in groups:
            node = getattr(node, group)
        setattr(node, name, value)
    with pytest.raises(UsageError, match=line.replace("[", r"\[")):
        check_offline_config(config)


def test_a_transformer_carries_nothing():
    config = make_config()
    config.evaluation.memory = DecisionMemory.carried
    check_offline_config(config)
    config.model = MODELS["dt"]()
    with pytest.raises(UsageError, match="carries no state"):
        check_offline_config(config)


@pytest.mark.parametrize("loss", [DecisionLoss.dt, DecisionLoss.online_dt])
def test_some_losses_want_continuous_actions(loss):
    assert resolve_loss(loss, CONTINUOUS) is loss
    with pytest.raises(UsageError, match="use objective=bc"):
        resolve_loss(loss, DISCRETE)


def test_auto_is_what_suits_the_actions():
    assert resolve_loss(DecisionLoss.auto, CONTINUOUS) is DecisionLoss.dt
    assert resolve_loss(DecisionLoss.auto, DISCRETE) is DecisionLoss.bc


def _copy(state):
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copy(value) for value in state]
    return state.clone() if isinstance(state, torch.Tensor) else state


def _equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
