"""Several discrete actions at once: against numbers worked out by hand, and inside TorchRL's and our losses."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, MultiOneHot, OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules.distributions.utils import has_analytic_entropy
from torchrl.objectives import A2CLoss, ClipPPOLoss

from tests.support.trained import OBJECTIVES, SIZES, Trained
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import make_actor, make_value
from torchrl_glam.modules.one_hot_blocks import OneHotBlocks, block_sizes
from torchrl_glam.runs.checkpoint import TrainedNetworks
from torchrl_glam.runs.checkpoint.weights_file import read_weights

LEVERS = ("preset=debug", "env.name=tests.support.sensors:FilmedLevers-v0", *SIZES)
LOGITS = torch.tensor([1.0, 2.0, 4.0, 1.0, 3.0]).log()  # probabilities 1/7, 2/7, 4/7 and 1/4, 3/4


def test_log_probability_entropy_and_mode_by_hand() -> None:
    actions = OneHotBlocks(LOGITS, (3, 2))
    for first, probability in enumerate((1 / 7, 2 / 7, 4 / 7)):
        for second, other in enumerate((1 / 4, 3 / 4)):
            action = torch.zeros(5, dtype=torch.long)
            action[[first, 3 + second]] = 1
            assert actions.log_prob(action).item() == pytest.approx(math.log(probability * other), abs=1e-6)
    entropy = -sum(p * math.log(p) for p in (1 / 7, 2 / 7, 4 / 7, 1 / 4, 3 / 4))
    assert actions.entropy().item() == pytest.approx(entropy, abs=1e-6)
    assert actions.mode.tolist() == actions.deterministic_sample.tolist() == [0, 0, 1, 0, 1]
    assert OneHotBlocks(torch.zeros(5), (3, 2)).mode.tolist() == [1, 0, 0, 1, 0], "one of equals"
    assert has_analytic_entropy(actions)


def test_a_block_of_one_choice_adds_nothing() -> None:
    actions, rest = OneHotBlocks(torch.cat([torch.ones(1), LOGITS]), (1, 3, 2)), OneHotBlocks(LOGITS, (3, 2))
    assert actions.sample((4,))[:, 0].tolist() == [1] * 4
    assert actions.mode.tolist() == [1, *rest.mode.tolist()]
    assert actions.log_prob(actions.mode) == rest.log_prob(rest.mode)
    assert actions.entropy() == rest.entropy()


def test_draws_have_the_probabilities_and_any_shape() -> None:
    actions = OneHotBlocks(LOGITS.expand(20_000, 5), (3, 2)).sample()
    assert actions.dtype == torch.int64
    assert (actions[:, :3].sum(-1) == 1).all()
    wanted = torch.tensor([1 / 7, 2 / 7, 4 / 7, 1 / 4, 3 / 4])
    torch.testing.assert_close(actions.float().mean(0), wanted, rtol=0, atol=0.015)
    together = (actions[:, 2] * actions[:, 4]).float().mean().item()
    assert together == pytest.approx(4 / 7 * 3 / 4, abs=0.015), "independent"
    expanded = OneHotBlocks(LOGITS, (3, 2)).expand((4, 2))
    assert expanded.sample((6,)).shape == (6, 4, 2, 5)
    assert expanded.entropy().shape == expanded.log_prob(expanded.mode).shape == (4, 2)


def test_the_gradient_is_that_of_the_sum() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    action = OneHotBlocks(logits, (3, 2)).sample()
    assert torch.autograd.gradcheck(lambda values: OneHotBlocks(values, (3, 2)).log_prob(action), logits)
    assert torch.autograd.gradcheck(lambda values: OneHotBlocks(values, (3, 2)).entropy(), logits)


@pytest.mark.parametrize(
    ("spec", "sizes"), [(MultiOneHot([3, 2]), [3, 2]), (MultiOneHot([3, 2]).expand(4, 5), [3, 2]), (OneHot(3), [3])]
)
def test_blocks_of_a_spec(spec: MultiOneHot, sizes: list[int]) -> None:
    assert block_sizes(spec) == sizes


@pytest.mark.parametrize("spec", [MultiOneHot([3, 2]), MultiOneHot([3, 2]).expand(4, 5)], ids=["alone", "batched"])
def test_the_actor_chooses_one_of_each_block(spec: MultiOneHot) -> None:
    actor = make_actor(12, 8, spec, hidden=8)
    states = TensorDict({"state": torch.randn(7, 4, 12), "belief": torch.randn(7, 4, 8)}, [7, 4])
    with set_exploration_type(ExplorationType.RANDOM):
        outputs = actor(states)
    assert MultiOneHot([3, 2]).expand(7, 4, 5).is_in(outputs["action"].bool())
    wanted = OneHotBlocks(outputs["logits"], (3, 2)).log_prob(outputs["action"])
    torch.testing.assert_close(outputs["action_log_prob"], wanted)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        greedy = actor(states)
    assert torch.equal(greedy["action"], OneHotBlocks(greedy["logits"], (3, 2)).mode)


@pytest.mark.parametrize("loss_class", [A2CLoss, ClipPPOLoss])
def test_torchrls_losses_by_hand(loss_class: type) -> None:
    actor, critic = make_actor(12, 8, MultiOneHot([3, 2]), hidden=8), make_value(12, 8, hidden=8)
    data = TensorDict({"state": torch.randn(9, 12), "belief": torch.randn(9, 8)}, [9])
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        actor(data)
    data.update({"advantage": torch.randn(9, 1), "value_target": torch.randn(9, 1)})
    terms = loss_class(actor, critic, entropy_coeff=0.1)(data)
    logits = actor.module[0](data.select("state", "belief"))["logits"]
    parts = [part.log_softmax(-1) for part in logits.split((3, 2), -1)]
    entropy = sum(-(part.exp() * part).sum(-1).mean() for part in parts)
    torch.testing.assert_close(terms["loss_entropy"], -0.1 * entropy)
    log_prob = (torch.cat(parts, -1) * data["action"]).sum(-1, keepdim=True)
    ratio_or_log = torch.ones_like(log_prob) if loss_class is ClipPPOLoss else log_prob
    torch.testing.assert_close(terms["loss_objective"], -(ratio_or_log * data["advantage"]).mean())
    (gradient,) = torch.autograd.grad(terms["loss_objective"], logits_bias(actor), retain_graph=True)
    (wanted,) = torch.autograd.grad(-(log_prob * data["advantage"]).mean(), logits_bias(actor))
    torch.testing.assert_close(gradient, wanted)


def logits_bias(actor: torch.nn.Module) -> torch.Tensor:
    """Return a parameter that the logits depend on."""
    return actor.module[0].module.output.bias


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "discrete_sac"])
def test_every_objective_learns_with_them(objective: str) -> None:
    options = ["agent.entropy_target=0.5"] if objective == "glam" else []
    trained = Trained(f"objective={objective}", *options, sizes=[*LEVERS])
    before = trained.state()["actor"]
    for _ in range(2):
        metrics = trained.update()
        assert all(value.isfinite().all() for value in metrics.values())
    assert any(not torch.equal(before[key], value) for key, value in trained.state()["actor"].items())
    contexts = trained.contexts.sample()
    rollout = trained.imagined.imagine(trained.imagined.start(contexts["pixels"], contexts["action"]), trained.actor, 3)
    assert (rollout["action"].sum(-1) == 2).all()


def test_discrete_sac_refuses_them() -> None:
    with pytest.raises(UsageError, match="one at a time, and the environment has several at once: choose glam"):
        Trained("objective=discrete_sac", sizes=[*LEVERS])


@pytest.mark.parametrize("spec", [MultiOneHot([3, 2]), OneHot(3), Bounded(-1, 1, (2,))], ids=["blocks", "one", "box"])
def test_weights_files_keep_the_actions(spec: MultiOneHot, tmp_path) -> None:
    TrainedNetworks({"actor": torch.nn.Linear(2, 2)}, spec).write(tmp_path / "weights.safetensors")
    read = read_weights(tmp_path / "weights.safetensors").action_spec
    assert (type(read), read.shape) == (type(spec), spec.shape)
    assert block_sizes(read) == block_sizes(spec)
