"""Updates and evaluation."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.data import OneHot
from torchrl.envs.utils import exploration_type

from tests.support.games import play_catch
from torchrl_glam.envs import make_atari_env
from torchrl_glam.modules import GLAMPolicy, make_actor
from torchrl_glam.objectives import GLAMModelLoss
from torchrl_glam.training import (
    WorldModelUpdate,
    check_finite,
    episode_returns,
    evaluate,
    optimizer_step,
)

# One optimizer step


@pytest.mark.parametrize(("max_norm", "moved"), [(1.0, [0.6, 0.8]), (100.0, [3.0, 4.0])])
def test_gradients_are_clipped_by_their_global_norm(max_norm, moved):
    first, second = (nn.Parameter(torch.tensor(0.0)) for _ in range(2))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    first.grad = torch.tensor(1e6)  # of an earlier step
    norm = optimizer_step(3 * first + 4 * second, [first, second], optimizer, max_norm)
    assert norm.item() == pytest.approx(5.0), "the norm before clipping"
    assert not norm.requires_grad
    assert [-first.item(), -second.item()] == pytest.approx(moved, rel=1e-4)


# The world model's update


def statistics(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers() if "running" in name or "tracked" in name}


@pytest.fixture
def trained(make_world_model):
    """A world model, its loss and its update."""
    world_model = make_world_model()
    loss = GLAMModelLoss(world_model)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    return world_model, loss, WorldModelUpdate(loss, optimizer, 1000.0)


def test_batch_norm_learns_in_updates_only(trained, make_batch):
    world_model, loss, update = trained
    before = statistics(world_model)
    assert len(before) == 3 * 4
    loss(make_batch())
    world_model.encode(make_batch()["pixels"])
    assert all(torch.equal(value, before[name]) for name, value in statistics(world_model).items())
    modes = []
    world_model.encoder.convolutions.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    for number in (1, 2):
        update(make_batch())
        after = statistics(world_model)
        assert not any(torch.equal(value, before[name]) for name, value in after.items())
        assert after["encoder.convolutions.1.num_batches_tracked"] == number
        assert not any(module.training for module in loss.modules())
        assert not any(module.training for module in world_model.modules())
        before = after
    assert modes == [True, True]


def test_batch_norm_statistics_are_of_the_batch(trained, make_batch):
    world_model, _, update = trained
    batch = make_batch()
    frames = batch["pixels"].flatten(0, 1).permute(0, 3, 1, 2) / 255
    convolution = world_model.encoder.convolutions[0]
    means = nn.functional.conv2d(frames, convolution.weight, stride=2, padding=1).mean((0, 2, 3)).detach()
    update(batch)
    torch.testing.assert_close(world_model.encoder.convolutions[1].running_mean, 0.1 * means)


def test_metrics_are_detached_scalars_on_the_device(trained, make_batch):
    _, loss, update = trained
    metrics, _ = update(make_batch())
    assert set(loss.out_keys) | {"grad_norm", "kl_dynamics", "kl_variation"} <= set(metrics.keys())
    for key, value in metrics.items():
        assert value.shape == (), key
        assert not value.requires_grad, key
        assert value.device.type == "cpu", key
    check_finite(metrics)


def test_updates_lower_the_loss(trained, make_batch):
    _, _, update = trained
    torch.manual_seed(0)
    batch = make_batch()
    history = [update(batch)[0] for _ in range(60)]
    for key in ("loss_reconstruction", "loss_reward", "loss_termination"):
        assert history[-1][key] < 0.6 * history[0][key], key


def test_the_update_steps_on_the_sum_of_the_terms(make_world_model, make_batch):
    """With SGD of rate 1 the parameters move by the gradient of all six terms."""
    world_model = make_world_model()
    loss = GLAMModelLoss(world_model, free_nats=0.0, variation_free_nats=0.0)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.train()
    torch.manual_seed(0)
    terms = loss(make_batch())
    gradients = torch.autograd.grad(sum(terms[key] for key in loss.out_keys), list(loss.parameters()))
    update = WorldModelUpdate(loss, torch.optim.SGD(loss.parameters(), lr=1.0), 1e9)
    torch.manual_seed(0)
    metrics, _ = update(make_batch())
    for old, new, gradient in zip(before, loss.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new, gradient, rtol=1e-3, atol=1e-4)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch.testing.assert_close(metrics["grad_norm"], norm, rtol=1e-4, atol=1e-4)


# Bookkeeping


def test_terms_that_are_not_finite_are_named():
    metrics = TensorDict(
        {"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(torch.nan), "kl": torch.tensor(-torch.inf)}
    )
    with pytest.raises(FloatingPointError, match=r"not finite: loss_b, kl;"):
        check_finite(metrics)
    check_finite(metrics.select("loss_a"))


def test_returns_of_the_episodes_that_end_in_a_batch():
    after = {
        "done": torch.tensor([[False], [True], [False], [True]]),
        "episode_reward": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
    }
    assert episode_returns(TensorDict({"next": after}, [4])) == [2.0, 4.0]
    assert episode_returns(TensorDict({"next": after}, [4])[:1]) == []


# Evaluation on a real game


class Scripted(TensorDictModuleBase):
    """Catches the first ``plan[episode]`` balls of each episode, then runs away from them."""

    def __init__(self, game, plan):
        super().__init__()
        self.in_keys, self.out_keys = ["pixels", "step_count"], ["action"]
        self.game, self.plan, self.episode, self.explorations = game, plan, -1, set()

    def forward(self, tensordict):
        if exploration_type() is not None:  # a collector first tries its policy outside of any episode
            self.explorations.add(exploration_type())
        step = tensordict["step_count"].item()
        self.episode += step == 0
        caught = step // self.game.FALL < self.plan[self.episode % len(self.plan)]
        action = play_catch(self.game) if caught else 2 if self.game.ball < 29 else 1
        return tensordict.set("action", nn.functional.one_hot(torch.tensor(action), 3))


@pytest.fixture
def catch():
    """The game behind its wrappers, and the environment."""
    env = make_atari_env("tests.support.games:CatchBall-v0", seed=0)
    yield env.base_env._env.unwrapped, env
    env.close()


def test_returns_are_those_of_each_episode(catch):
    game, env = catch
    assert evaluate(env, Scripted(game, [5]), 3) == [5.0, 5.0, 5.0]


def test_each_episode_counts_for_itself(catch):
    """A second witness: the rewards that the game gave, episode by episode."""
    game, env = catch
    episodes, step, reset = [], game.step, game.reset

    def witness_step(action):
        result = step(action)
        episodes[-1].append(result[1])
        return result

    def witness_reset(**options):
        episodes.append([])
        return reset(**options)

    game.step, game.reset = witness_step, witness_reset
    returns = evaluate(env, Scripted(game, [5, 0, 3]), 6)
    played = [sum(rewards) for rewards in episodes if len(rewards) == game.BALLS * game.FALL]
    assert len(returns) == 6
    assert returns == played[:6]
    assert returns.count(5.0) == 2, "the plan: all five balls in every third episode"


def test_an_episode_that_goes_on_is_cut(catch, monkeypatch, capsys):
    """The game never ends, but for the second episode, which does so after its five balls."""
    game, env = catch
    step, ends = game.step, []

    def go_on(action):
        pixels, reward, ended, *rest = step(action)
        ends.append(ended)
        return pixels, reward, ended and len(ends) == 84 + 60, *rest

    monkeypatch.setattr(game, "step", go_on)
    assert evaluate(env, Scripted(game, [9]), 3, max_steps=84) == [7.0, 5.0, 7.0]
    assert capsys.readouterr().out.splitlines() == ["evaluation: an episode was cut after 84 steps"] * 2
    assert len(ends) == 84 + 60 + 84


@pytest.mark.parametrize("greedy", [False, True])
def test_greedy_reaches_the_policy(catch, greedy):
    game, env = catch
    policy = Scripted(game, [5])
    evaluate(env, policy, 1, greedy=greedy)
    assert {kind.name for kind in policy.explorations} == {"DETERMINISTIC" if greedy else "RANDOM"}


def test_a_policy_with_a_context_can_be_evaluated_again_and_again(catch, make_world_model):
    _, env = catch
    world_model = make_world_model(image_shape=(64, 64, 3), channels=(2, 2, 2, 2))
    policy = GLAMPolicy(world_model, make_actor(world_model.state_size, 8, OneHot(3), hidden=8), OneHot(3))
    returns = [evaluate(env, policy, 2) for _ in range(3)]
    assert all(0 <= value <= 5 and value == int(value) for pair in returns for value in pair)
