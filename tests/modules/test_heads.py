"""The small networks around the backbone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchrl.modules.functional import symlog
from torchrl.modules.models.model_based import two_hot_encode

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.actor_critic import make_actor, make_critic
from torchrl_glam.modules.heads import BinaryHead, CategoricalHead, StateActionEmbedding, TwoHotHead, make_trunk


def layer_norm(x, norm):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_plan_of_a_trunk(num_layers):
    trunk = make_trunk(5, 7, num_layers)
    assert [type(layer) for layer in trunk] == [nn.Linear, nn.LayerNorm, nn.ReLU] * num_layers
    assert [tuple(layer.weight.shape) for layer in trunk[::3]] == [(7, 5)] + [(7, 7)] * (num_layers - 1)
    assert all(layer.bias is None for layer in trunk[::3])


@pytest.mark.parametrize("leading", [(), (4,), (4, 3)])
def test_token_by_its_formula(shake, leading):
    embedding = shake(StateActionEmbedding(5, 2, 6))
    state, action = torch.randn(*leading, 5), torch.eye(2, dtype=torch.int64)[1].expand(*leading, 2)
    first, norm, _, last = embedding.layers
    hidden = layer_norm(state @ first.weight[:, :5].T + first.weight[:, 6], norm).clamp_min(0)
    assert first.bias is None
    assert last.bias is None
    assert tuple(last.weight.shape) == (6, 6)
    torch.testing.assert_close(embedding(state, action), hidden @ last.weight.T)


@pytest.mark.parametrize("action", [torch.zeros(4, 3), torch.zeros(4), torch.tensor(1)], ids=["wide", "flat", "index"])
@pytest.mark.usefixtures("without_shape_checks")
def test_actions_of_another_width_are_refused(action):
    with pytest.raises(UsageError, match=r"the actions have shape \(.*\): the world model wants \[\.\. 2\]"):
        StateActionEmbedding(5, 2, 6)(torch.zeros(*action.shape[:-1], 5), action)


def test_prior_by_its_formula(shake):
    head = shake(CategoricalHead(5, 2, 4, unimix=0.2))
    belief = torch.randn(3, 7, 5)
    p = (belief @ head.linear.weight.T + head.linear.bias).reshape(3, 7, 2, 4).softmax(-1)
    torch.testing.assert_close(head(belief).exp(), 0.8 * p + 0.2 / 4)
    assert CategoricalHead(5, 2, 4).unimix == 0.01


def test_bins_are_uniform_in_symlog_space():
    head = TwoHotHead(4, 8)
    assert head.bins.shape == (255,)
    assert head.bins[[0, 127, 254]].tolist() == pytest.approx([-20.0, 0.0, 20.0], abs=1e-6)
    torch.testing.assert_close(head.bins.diff(), torch.full((254,), 40 / 254), rtol=1e-4, atol=1e-6)
    assert "bins" not in head.state_dict()


def logits_of(probabilities, num_bins=255):
    logits = torch.full((num_bins,), -math.inf)
    for place, probability in probabilities.items():
        logits[place] = math.log(probability)
    return logits


@pytest.mark.parametrize(
    ("probabilities", "wanted"),
    [
        ({127: 1.0}, 0.0),
        ({127: 0.5, 128: 0.5}, 0.08192307),  # exp(20 / 254) - 1
        ({0: 0.5, 254: 0.5}, 0.0),  # the expectation is taken in symlog space
        ({126: 0.25, 130: 0.75}, 0.37020551),  # symlog space: -0.25 * 0.1574803 + 0.75 * 0.4724409 = 0.3149606
        ({100: 1.0}, -69.243589),  # -(exp(27 * 0.1574803) - 1)
        ({254: 1.0}, 485165194.4),  # exp(20) - 1
    ],
)
def test_decoding_by_hand(probabilities, wanted):
    value = TwoHotHead(4, 8).decode(logits_of(probabilities))
    assert value.shape == (1,)
    assert value.item() == pytest.approx(wanted, rel=2e-5, abs=1e-6)


def make_raw_head(shown, **options):
    head = TwoHotHead(4, 8, decoding="raw", **options)
    show(head, torch.tensor(shown))
    return head


def show(head, targets):
    """Train on targets, which is when a raw head sees them."""
    head.loss(torch.zeros(len(targets), 255), targets)


@pytest.mark.parametrize(
    ("probabilities", "wanted"),
    [
        ({127: 1.0}, 0.0),
        ({127: 0.9, 156: 0.1}, 9.5253),  # 0.1 (exp(29 * 0.1574803) - 1); in symlog space 0.58
        ({98: 0.2, 156: 0.3}, 0.2 * 95.253),  # half of either chance is beside them: 0.4 and 0.6 of what is left
        ({127: 0.9, 254: 0.1}, 0.0),  # beyond all targets shown
    ],
)
def test_raw_decoding_by_hand(probabilities, wanted):
    value = make_raw_head([[0.0], [-100.0]]).decode(logits_of(probabilities))
    assert value.shape == (1,)
    assert value.item() == pytest.approx(wanted, rel=2e-4, abs=1e-6)


def test_raw_decoding_is_that_of_the_target_where_it_is_sure():
    head = make_raw_head([[-3.0], [100.0], [0.5]])
    for target in (-3.0, -0.5, 0.0, 0.5, 17.3, 100.0):
        encoded = two_hot_encode(symlog(torch.tensor([target])), head.bins)
        assert head.decode(encoded.log()[0]).item() == pytest.approx(target, rel=0.01, abs=1e-5)


def test_a_new_raw_head_predicts_nothing_and_remembers_what_it_was_shown(shake):
    head = TwoHotHead(4, 8, decoding="raw")
    assert head.decode(head(torch.randn(3, 2, 4))).abs().max() == 0
    show(head, torch.tensor([[5.0], [-7.0]]))
    show(head, torch.tensor([[1.0]]))
    assert head.reach.item() == pytest.approx(math.log(8))
    assert head.decode(head(torch.randn(3, 2, 4))).abs().max() == 0
    assert shake(head).decode(10 * torch.randn(100, 255)).abs().max() < 9.5
    copy = TwoHotHead(4, 8, decoding="raw")
    copy.load_state_dict(head.state_dict())
    assert copy.reach == head.reach


def test_decoding_keeps_leading_dimensions_and_is_single_precision_at_least():
    head = TwoHotHead(4, 8, num_bins=5, limit=2.0)
    logits = torch.stack([logits_of({2: 1.0}, 5), logits_of({3: 1.0}, 5), logits_of({0: 1.0}, 5)])
    values = head.decode(logits.bfloat16().expand(2, 3, 5))
    assert values.dtype == torch.float32
    assert values.shape == (2, 3, 1)
    assert values[1, :, 0].tolist() == pytest.approx([0.0, math.e - 1, -(math.exp(2) - 1)])


def test_a_new_two_hot_head_predicts_nothing(shake):
    head = TwoHotHead(4, 8)
    assert head.decode(head(torch.randn(3, 2, 4))).abs().max() < 1e-8
    assert shake(head)(torch.randn(3, 2, 4)).shape == (3, 2, 255)
    assert [tuple(layer.weight.shape) for layer in head.trunk[::3]] == [(8, 4), (8, 8)]


def test_binary_head(shake):
    head = shake(BinaryHead(4, 8))
    assert [tuple(layer.weight.shape) for layer in head.trunk[::3]] == [(8, 4), (8, 8)]
    assert head(torch.randn(3, 2, 4)).shape == (3, 2, 1)
    assert head(torch.randn(4)).shape == (1,)


def test_actor_and_critic_see_latent_and_belief(shake):
    from tensordict import TensorDict
    from torchrl.data import OneHot

    actor, critic = shake(make_actor(6, 4, OneHot(3), hidden=8)), shake(make_critic(6, 4, hidden=8))
    assert [tuple(layer.weight.shape) for layer in critic.module.head.trunk[::3]] == [(8, 10), (8, 8)]
    inputs = TensorDict({"state": torch.randn(2, 5, 6), "belief": torch.randn(2, 5, 4)}, [2, 5])
    outputs = critic(actor(inputs.clone()))
    network = actor.module[0].module
    joined = torch.cat([inputs["state"], inputs["belief"]], -1)
    torch.testing.assert_close(outputs["logits"], network.output(network.trunk(joined)))
    assert outputs["action"].shape == (2, 5, 3)
    assert (outputs["action"].sum(-1) == 1).all()
    wanted = (outputs["logits"].log_softmax(-1) * outputs["action"]).sum(-1)
    torch.testing.assert_close(outputs["action_log_prob"], wanted)
    torch.testing.assert_close(outputs["state_value_logits"], critic.module.head(joined))
    expectation = (outputs["state_value_logits"].softmax(-1) * torch.linspace(-20, 20, 255)).sum(-1, keepdim=True)
    wanted = expectation.sign() * (expectation.abs().exp() - 1)
    torch.testing.assert_close(outputs["state_value"], wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(critic.bins, critic.module.head.bins)
