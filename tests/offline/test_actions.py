"""Networks as TorchRL actors, under TorchRL's losses: written keys, golden numbers, padding."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Categorical, MultiOneHot, OneHot, Unbounded
from torchrl.modules import TanhDelta
from torchrl.objectives import DTLoss, OnlineDTLoss

from tests.support.decisions import ACTION, CONTEXT, make_network, make_windows, run
from torchrl_glam.errors import UsageError
from torchrl_glam.offline import DecisionActor, make_decision_actor
from torchrl_glam.offline.actions import SquashedDelta
from torchrl_glam.offline.factory import AnnotatedBCLoss as BCLoss

BOX = Bounded(-1, 1, (ACTION,), dtype=torch.float64)
WIDE = Bounded(torch.tensor([0.0, -3.0, 100.0]), torch.tensor([1.0, 2.0, 300.0]), dtype=torch.float32)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)


class Table(DecisionActor):
    """Says the same at every step, whatever it sees."""

    def __init__(self, output):
        super().__init__((5,), ACTION, len(output))
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, observation, action, return_to_go, time_step=None):
        return self.output.expand(*observation.shape[:-1], -1)

    observe = remember = initial_memory = set_statistics = None


def padded(discrete=False):
    windows = make_windows(2, CONTEXT, discrete=discrete)
    return windows.set(("collector", "mask"), MASK.unsqueeze(-1).clone())


@pytest.mark.parametrize("name", ["mambadm", "dt", "bc"])
def test_deterministic_actions_are_the_squashed_output(name):
    network, windows = make_network(name), make_windows(2, CONTEXT)
    outputs = run(network, windows)
    written = make_decision_actor(network, WIDE)(windows.clone())
    assert torch.equal(written["param"], outputs)
    low, high = WIDE.space.low, WIDE.space.high
    torch.testing.assert_close(written["action"], low + (high - low) * (outputs.tanh() + 1) / 2)
    assert (written["action"] >= low).all()
    assert (written["action"] <= high).all()


def test_time_steps_may_be_left_out():
    network, windows = make_network("mambadm"), make_windows(2, CONTEXT).exclude("time_step")
    wanted = network(windows["observation"], windows["action"], windows["return_to_go"]).tanh()
    torch.testing.assert_close(make_decision_actor(network, BOX)(windows)["action"], wanted)


def test_squashed_delta_is_torchrls_but_for_its_shift_in_bounds_that_are_not_symmetric():
    param = torch.linspace(-2, 2, 3)
    low, high = torch.tensor(-2.0), torch.tensor(2.0)
    torch.testing.assert_close(SquashedDelta(param, low, high).mode, TanhDelta(param, low, high).mode)
    low, high = torch.tensor(0.0), torch.tensor(100.0)
    assert TanhDelta(param, low, high).mode.tolist() == pytest.approx([100.0] * 3), "else ours is needed no longer"
    delta = SquashedDelta(param, low, high)
    torch.testing.assert_close(delta.mode, 50 + 50 * param.tanh())
    delta.update(torch.zeros(3))
    torch.testing.assert_close(delta.mode, torch.full((3,), 50.0))


def test_squared_error_by_hand_leaves_padding_out():
    network, windows = make_network("mambadm"), padded()
    error = (run(network, windows).tanh() - windows["action"]) ** 2
    loss = DTLoss(make_decision_actor(network, BOX))
    torch.testing.assert_close(loss(windows)["loss"], error[MASK].mean())
    golden = DTLoss(make_decision_actor(Table([0.0, math.atanh(0.5), -math.atanh(0.5)]), WIDE))
    windows["action"] = torch.tensor([0.25, 0.75, 148.0]).expand(2, CONTEXT, 3)
    # tanh 0, 1/2, -1/2 in [0, 1], [-3, 2], [100, 300]: 0.5, 0.75, 150
    assert golden(windows)["loss"].item() == pytest.approx((0.25**2 + 0 + 4) / 3, rel=1e-5)


@pytest.mark.parametrize("name", ["mambadm", "dmamba", "dt", "bc"])
@pytest.mark.parametrize("kind", ["l2", "online", "discrete online", "bc"])
def test_whatever_padding_holds_neither_loss_nor_gradients_change(name, kind):
    def terms(windows):
        discrete = kind in ("bc", "discrete online")
        spec = OneHot(ACTION) if discrete else BOX
        network = make_network(name, output_size=2 * ACTION if kind == "online" else ACTION)
        actor = make_decision_actor(
            network, spec, stochastic=kind == "online", action_key="prediction" if kind == "bc" else "action"
        )
        kinds = {"l2": DTLoss, "online": OnlineDTLoss, "discrete online": OnlineDTLoss, "bc": BCLoss}
        torch.manual_seed(0)
        terms = kinds[kind](actor)(windows)
        total = sum(value for key, value in terms.items() if key.startswith("loss"))
        assert total.shape == ()
        gradients = torch.autograd.grad(total, list(network.parameters()), allow_unused=True)
        return total, [gradient for gradient in gradients if gradient is not None]

    clean = padded(discrete=kind in ("bc", "discrete online"))
    dirty = clean.clone()
    for key in ("observation", "return_to_go", "action"):
        dirty[key][~MASK] = -0.3 if key == "action" else 50.0
    (left, left_gradients), (right, right_gradients) = terms(clean), terms(dirty)
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(left_gradients, right_gradients)
    assert sum(gradient.abs().sum() for gradient in left_gradients) > 0
    unmasked = dirty.exclude(("collector", "mask"))
    assert not torch.allclose(terms(unmasked)[0], right)


def test_cross_entropy_golden_number():
    """-log softmax([0, ln 2, ln 3]) of classes 0, 1, 2 is ln 6, ln 3, ln 2."""
    actor = make_decision_actor(Table([0.0, math.log(2), math.log(3)]), OneHot(ACTION))
    windows = make_windows(1, 3, dtype=torch.float32)
    windows["action"] = torch.eye(3)[None]
    wanted = (math.log(6) + math.log(3) + math.log(2)) / 3
    assert BCLoss(actor)(windows)["loss_bc"].item() == pytest.approx(wanted)
    assert OnlineDTLoss(actor)(windows)["loss_log_likelihood"].item() == pytest.approx(wanted)
    windows["collector", "mask"] = torch.tensor([[[True], [False], [True]]])
    wanted = (math.log(6) + math.log(2)) / 2
    assert BCLoss(actor)(windows)["loss_bc"].item() == pytest.approx(wanted)
    assert OnlineDTLoss(actor)(windows)["loss_log_likelihood"].item() == pytest.approx(wanted)


def test_cross_entropy_of_a_network_that_reads_past_actions():
    """BCLoss runs the actor twice; the first run overwrites the input of the second, unless it writes elsewhere."""
    network, windows = make_network("mambadm"), padded(discrete=True)
    logits = run(network, windows)[MASK]
    wanted = nn.functional.cross_entropy(logits, windows["action"][MASK].argmax(-1))
    elsewhere = make_decision_actor(network, OneHot(ACTION), action_key="prediction")
    torch.testing.assert_close(BCLoss(elsewhere)(windows)["loss_bc"], wanted)
    likelihood = OnlineDTLoss(make_decision_actor(network, OneHot(ACTION)))(windows)["loss_log_likelihood"]
    torch.testing.assert_close(likelihood, wanted)
    overwritten = BCLoss(make_decision_actor(network, OneHot(ACTION)))(windows)["loss_bc"]
    assert not torch.allclose(overwritten, wanted), "TorchRL has changed: action_key is needed no longer"


def test_likelihood_of_continuous_actions_by_hand():
    network, windows = make_network("mambadm", output_size=2 * ACTION), padded()
    actor = make_decision_actor(network, BOX, stochastic=True)
    written = actor(windows.clone())
    loc, scale = 4 * (written["loc"] / 4).tanh(), written["scale"]
    before = windows["action"].atanh()
    density = torch.distributions.Normal(loc, scale).log_prob(before) - (1 - windows["action"] ** 2).log()
    terms = OnlineDTLoss(actor)(windows)
    torch.testing.assert_close(terms["loss_log_likelihood"], -density.sum(-1)[MASK].mean())
    assert OnlineDTLoss(actor).target_entropy.item() == -ACTION


def test_actions_of_a_batch_of_environments_have_one_spec():
    actor = make_decision_actor(make_network("bc"), WIDE.expand(4, ACTION))
    assert actor(make_windows(4, 2))["action"].shape == (4, 2, ACTION)


@pytest.mark.parametrize(
    ("spec", "stochastic", "message"),
    [
        (
            MultiOneHot((2, 1)),
            False,
            "the actions are MultiOneHot of torch.bool: an actor is made for OneHot, or Bound",
        ),
        (Categorical(3), False, "the actions are Categorical"),
        (Unbounded((3,)), False, "the actions are Unbounded"),
        (Bounded(0, 3, (3,), dtype=torch.int64), False, "the actions are BoundedDiscrete of torch.int64"),
        (Bounded(-1, 1, (2,)), False, "output_size of the network is 3: these actions need 2"),
        (Bounded(-1, 1, (3,)), True, "output_size of the network is 3: these actions need 6"),
        (Bounded(-torch.inf, 1, (3,)), False, "the actions have no bounds: rescale them to some"),
    ],
)
def test_actions_that_cannot_be_are_refused(spec, stochastic, message):
    with pytest.raises(UsageError, match=message):
        make_decision_actor(make_network("bc"), spec, stochastic)


def test_what_is_written():
    windows = TensorDict(make_windows(2, 3).to_dict(), [2, 3])
    keys = {
        "logits": make_decision_actor(make_network("dt"), OneHot(ACTION)),
        "param": make_decision_actor(make_network("dt"), BOX),
        "scale": make_decision_actor(make_network("dt", output_size=6), BOX, stochastic=True),
    }
    for key, actor in keys.items():
        assert actor.in_keys == ["observation", "action", "return_to_go", "time_step"]
        written = actor(windows.clone())
        assert written[key].shape == (2, 3, ACTION)
        assert written["action"].shape == (2, 3, ACTION)
