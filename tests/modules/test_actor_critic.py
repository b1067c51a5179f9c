"""Actors and critics: their distributions against torch's in float64, and what TorchRL's losses make of them."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import distributions, nn
from torchrl.data import Binary, Bounded, Categorical, OneHot, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import SymExpTwoHot
from torchrl.modules.distributions.utils import has_analytic_entropy
from torchrl.objectives import A2CLoss, ClipPPOLoss, DiscreteSACLoss, ReinforceLoss, SoftUpdate
from torchrl.objectives.dreamer_v3 import DreamerV3ValueLoss, two_hot_encode

from tests.support.actions import HIGH, LOW, in_float64
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.compilation import COMPILED
from torchrl_glam.modules.actor_critic import make_actor, make_critic, make_q_values, make_symexp_critic, make_value

SIZES = (12, 8)  # of state and belief
BOX = Bounded(LOW, HIGH)


def make_states(*shape, seed=0, **others):
    generator = torch.Generator().manual_seed(seed)
    states = {
        "state": torch.randn(*shape, 12, generator=generator),
        "belief": torch.randn(*shape, 8, generator=generator),
    }
    return TensorDict({**states, **others}, shape)


def sampling():
    """As imagination and collectors set it: by itself an actor takes the most likely action."""
    return set_exploration_type(ExplorationType.RANDOM)


def make_rollout(actor, *shape):
    """What imagination would return, with rewards of noise."""
    rollout = make_states(*shape)
    with torch.no_grad(), sampling():
        actor(rollout)
    flags = {key: torch.zeros(*shape, 1, dtype=torch.bool) for key in ("done", "terminated")}
    return rollout.set("next", make_states(*shape, seed=1, reward=torch.randn(*shape, 1), **flags))


def push(actor, loc, scale):
    """Make the network's outputs all the same: mean and, before it is made positive, standard deviation."""
    output = actor.module[0].module.network.output
    nn.init.zeros_(output.weight)
    size = output.bias.shape[0] // 2
    output.bias.data = torch.cat([torch.full((size,), float(loc)), torch.full((size,), float(scale))])
    return actor


# Actors


@pytest.mark.parametrize("loc", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("scale", [-1e4, 0.0, 1e4])
def test_at_the_borders_all_stays_finite(loc, scale):
    actor = push(make_actor(*SIZES, BOX, hidden=8), loc, scale)
    states = make_states(500)
    with sampling():
        outputs = actor(states)
    assert ((outputs["action"] >= LOW) & (outputs["action"] <= HIGH)).all()
    assert (outputs["scale"] >= 0.1).all()
    actions = actor.get_dist(states)
    log_probs = [outputs["action_log_prob"], actions.entropy()]
    log_probs += [actions.log_prob(action.expand(500, 2)) for action in (LOW, HIGH, outputs["action"].detach())]
    assert all(log_prob.isfinite().all() for log_prob in log_probs)
    sum(log_prob.sum() for log_prob in log_probs).backward()
    assert all(parameter.grad.isfinite().all() for parameter in actor.parameters())


def test_a_policy_that_wants_the_border_gets_there_and_stays_finite():
    """Policy gradient with the greatest action as the best one, for 800 steps."""
    torch.manual_seed(0)
    actor = make_actor(*SIZES, BOX, hidden=8)
    optimizer = torch.optim.Adam(actor.parameters(), lr=0.03)
    states = make_states(32)
    for _ in range(800):
        actions = actor.get_dist(states)
        action = actions.sample()
        log_prob = actions.log_prob(action)
        gain = (action / HIGH).sum(-1)
        loss = -(log_prob * (gain - gain.mean())).mean() - 1e-3 * actions.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in actor.parameters())
    assert (actor.get_dist(states).deterministic_sample > 0.99 * HIGH).all()
    assert not (actor.get_dist(states).deterministic_sample == HIGH).any()


def test_one_hot_actor_draws_from_its_logits():
    actor, states = make_actor(*SIZES, OneHot(3), hidden=8), make_states(50)
    torch.manual_seed(0)
    with sampling():
        outputs = actor(states)
    oracle = distributions.OneHotCategorical(logits=outputs["logits"])
    torch.manual_seed(0)
    assert torch.equal(outputs["action"].float(), oracle.sample())
    torch.testing.assert_close(outputs["action_log_prob"], oracle.log_prob(outputs["action"].float()))
    assert list(actor.state_dict())[:1] == ["module.0.module.trunk.0.weight"], "checkpoints are read by these names"


@pytest.mark.parametrize("shape", [(), (5,), (5, 7)])
@pytest.mark.parametrize("spec", [BOX, BOX.expand(4, 2)], ids=["alone", "batched"])
def test_continuous_actor_for_any_shape(spec, shape):
    actor = make_actor(*SIZES, spec, hidden=8)
    with sampling():
        outputs = actor(make_states(*shape))
    assert outputs["action"].shape == (*shape, 2)
    assert outputs["action"].dtype == torch.float32
    assert outputs["action_log_prob"].shape == shape
    assert BOX.is_in(outputs["action"])


def test_continuous_actor_draws_from_its_parameters(shake):
    actor = shake(make_actor(*SIZES, BOX, hidden=8))
    torch.manual_seed(0)
    with sampling():
        outputs = actor(make_states(200))
    assert (outputs["action"].std(0) > 0.1 * (HIGH - LOW)).all()
    wanted = in_float64(outputs["loc"], outputs["scale"]).log_prob(outputs["action"].double())
    torch.testing.assert_close(outputs["action_log_prob"].double(), wanted, rtol=1e-3, atol=1e-3)


def test_greedy_actions_are_the_squashed_mean(shake):
    actor, states = shake(make_actor(*SIZES, BOX, hidden=8)), make_states(5)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        outputs = [actor(states.clone()) for _ in range(2)]
    assert torch.equal(outputs[0]["action"], outputs[1]["action"])
    wanted = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * (4 * (outputs[0]["loc"] / 4).tanh()).tanh()
    torch.testing.assert_close(outputs[0]["action"], wanted)


@pytest.mark.parametrize("loss_class", [A2CLoss, ClipPPOLoss, ReinforceLoss])
@pytest.mark.parametrize("spec", [OneHot(3), BOX], ids=["one-hot", "continuous"])
def test_policy_losses_of_torchrl(shake, spec, loss_class, monkeypatch):
    """They train actor and critic, see the ratio 1, and estimate no entropy of their own, for which they would warn."""
    monkeypatch.setattr("torchrl.modules.distributions.utils._warn_mc_entropy", None)
    actor, critic = shake(make_actor(*SIZES, spec, hidden=8)), shake(make_value(*SIZES, hidden=8))
    rollout = make_rollout(actor, 4, 6)
    assert has_analytic_entropy(actor.get_dist(rollout))
    loss = loss_class(actor, critic)
    terms = loss(rollout)
    sum(value for key, value in terms.items() if key.startswith("loss_")).backward()
    for parameter in loss.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    if loss_class is ClipPPOLoss:
        assert terms["clip_fraction"] == 0
        assert abs(terms["kl_approx"]) < 1e-5


@pytest.mark.slow
def test_compiled_continuous_policy_loss(shake):
    actor, critic = shake(make_actor(*SIZES, BOX, hidden=8)), shake(make_value(*SIZES, hidden=8))
    loss = ClipPPOLoss(actor, critic, entropy_bonus=False)
    rollout = make_rollout(actor, 4, 6)
    loss.value_estimator(rollout)
    wanted = loss(rollout.clone())
    got = torch.compile(loss, **{**COMPILED, "fullgraph": False})(rollout.clone())
    for key in ("loss_objective", "loss_critic", "kl_approx"):
        torch.testing.assert_close(got[key], wanted[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (Unbounded((2,)), "UnboundedContinuous of torch.float32"),
        (Categorical(3), "Categorical of torch.int64"),
        (Binary(3), "Binary of torch.int8"),
        (Bounded(0, 3, (2,), dtype=torch.int64), "BoundedDiscrete of torch.int64"),
    ],
)
def test_other_actions_are_refused(spec, kind):
    with pytest.raises(
        UsageError, match=f"the actions are {kind}: an actor is made for OneHot, MultiOneHot, or Bounded with"
    ):
        make_actor(*SIZES, spec)


# Critics


CRITICS = [
    (make_critic, {"state_value_logits": 255, "state_value": 1}),
    (make_value, {"state_value": 1}),
    (make_symexp_critic, {"state_value_logits": 255, "state_value": 1}),
    (lambda *sizes, **options: make_q_values(*sizes, 3, **options), {"action_value": 3}),
]


@pytest.mark.parametrize(("make", "keys"), CRITICS)
def test_critics_drawn_anew_start_at_zero(make, keys, shake):
    critic = shake(make(*SIZES, hidden=8))
    assert all(critic(make_states(5))[key].abs().max() > 1e-3 for key in keys)
    critic.reset_parameters_recursive()
    assert all(critic(make_states(5))[key].abs().max() < 1e-9 for key in keys)


@pytest.mark.parametrize("shape", [(), (5,), (5, 7)])
@pytest.mark.parametrize(("make", "keys"), CRITICS)
def test_critics_start_at_zero(make, keys, shape):
    critic = make(*SIZES, hidden=8, num_layers=1)
    outputs = critic(make_states(*shape))
    assert set(critic.in_keys) == {"state", "belief"}
    for key, size in keys.items():
        assert outputs[key].shape == (*shape, size)
        assert outputs[key].abs().max() < 1e-9
    assert sum(isinstance(module, nn.LayerNorm) for module in critic.modules()) == 1


def test_symexp_critic_decodes_what_torchrls_value_loss_encodes():
    critic = make_symexp_critic(*SIZES, hidden=8)
    loss = DreamerV3ValueLoss(critic, value_loss="two_hot", slow_critic_regularization=1.0)
    SoftUpdate(loss, tau=0.02)
    network, decoder = critic[0].module, critic[1].module
    assert isinstance(decoder, SymExpTwoHot)
    assert torch.equal(loss.value_bins, decoder.bins)
    target = torch.tensor([-30.0, 0.2, 700.0])
    perfect = two_hot_encode(target, loss.value_bins).log()
    torch.testing.assert_close(decoder(perfect), target[:, None])
    states = make_states(3, lambda_target=target[:, None])
    loss(states)[0]["loss_value"].backward()
    gradient = loss.value_model_params["module", "0", "module", "output", "bias"].grad
    slow = two_hot_encode(torch.zeros(1), decoder.bins)[0]  # the copy's value is still 0
    pull = 2 / 255 - perfect.exp().mean(0) - slow  # of a softmax from uniform to both targets
    torch.testing.assert_close(gradient, pull, rtol=1e-4, atol=1e-6)
    assert not network.output.bias.any()


def test_q_values_train_in_discrete_sac(shake):
    actor = shake(make_actor(*SIZES, OneHot(3), hidden=8))
    loss = DiscreteSACLoss(actor, make_q_values(*SIZES, 3, hidden=8), action_space="one-hot", num_actions=3)
    SoftUpdate(loss, tau=0.01)
    rollout = make_rollout(actor, 4, 6).reshape(-1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)
    for _ in range(2):  # the first step moves the last layer off zero, which is what the layers before it learn by
        optimizer.zero_grad()
        terms = loss(rollout)
        total = sum(value for key, value in terms.items() if key.startswith("loss_"))
        total.backward()
        optimizer.step()
    assert total.isfinite()
    assert all(parameter.grad.any() for parameter in loss.parameters() if parameter.requires_grad)
