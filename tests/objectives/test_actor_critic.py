"""Returns, critic and actor against numbers by hand and a hand-written REINFORCE."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import OneHot
from torchrl.modules import PercentileValueNorm
from torchrl.objectives import SoftUpdate

from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import make_critic
from torchrl_glam.objectives import GLAMCriticLoss
from torchrl_glam.objectives.returns import make_return_norm
from torchrl_glam.training import policy

GAMMA, LAMBDA = 0.9, 0.5


class FakeCritic(nn.Module):
    """Values are ``scale`` times the state; logits are the same everywhere."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.logits = nn.Parameter(torch.tensor([0.2, 0.3, 0.5]).log())

    def forward(self, state):
        return self.logits.expand(*state.shape[:-1], 3), self.scale * state


def fake_loss(bootstrap="next", slow_scale=2.0):
    critic = TensorDictModule(FakeCritic(), in_keys=["state"], out_keys=["state_value_logits", "state_value"])
    bins = torch.tensor([0.0, 1.0, 2.0])
    loss = GLAMCriticLoss(critic, bins, gamma=GAMMA, lmbda=LAMBDA, bootstrap=bootstrap)
    SoftUpdate(loss, tau=0.02)  # torchrl warns of a loss without one
    loss.target_critic_network_params["module", "scale"].data.fill_(slow_scale)
    return loss


def column(values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype).reshape(1, -1, 1)


def fake_rollout():
    """Three steps of which the middle one terminates: V is 1, 2, 3 and, of the next states, 2, 3, 4."""
    ends = column([False, True, False], torch.bool)
    after = {"state": column([2.0, 3.0, 4.0]), "reward": column([1.0, 2.0, 3.0]), "done": ends, "terminated": ends}
    return TensorDict({"state": column([1.0, 2.0, 3.0]), "next": after}, [1, 3])


RETURNS = {
    # G_2 = 3 + 0.9 V_3; G_1 = 2, the episode ends; G_0 = 1 + 0.9 (0.5 V_1 + 0.5 G_1)
    "next": [1 + 0.9 * (0.5 * 2 + 0.5 * 2), 2.0, 3 + 0.9 * 4],
    # V_t stands for V_{t+1}: G_2 = 3 + 0.9 (0.5 V_2 + 0.5 V_3); G_0 = 1 + 0.9 (0.5 V_0 + 0.5 G_1)
    "current": [1 + 0.9 * (0.5 * 1 + 0.5 * 2), 2.0, 3 + 0.9 * (0.5 * 3 + 0.5 * 4)],
}
SLOW_RETURNS = {  # the same under twice the values
    "next": [1 + 0.9 * (0.5 * 4 + 0.5 * 2), 2.0, 3 + 0.9 * 8],
    "current": [1 + 0.9 * (0.5 * 2 + 0.5 * 2), 2.0, 3 + 0.9 * (0.5 * 6 + 0.5 * 8)],
}


def cross_entropy(value):
    """Two-hot cross-entropy at ``log(1 + value)`` on the bins 0, 1, 2 with probabilities 0.2, 0.3, 0.5."""
    place = min(math.log1p(value), 2.0)
    lower = min(int(place), 1)
    surprise = [-math.log(0.2), -math.log(0.3), -math.log(0.5)]
    return (lower + 1 - place) * surprise[lower] + (place - lower) * surprise[lower + 1]


# Returns and critic


@pytest.mark.parametrize("shared", [False, True])
def test_values_of_states_that_go_on_in_one_memory_are_computed_once(shared):
    loss, rollout, evaluated = fake_loss(), fake_rollout(), []
    loss.critic_network.module.register_forward_pre_hook(lambda _, inputs: evaluated.append(inputs[0].shape[1]))
    if shared:
        states = column([1.0, 2.0, 3.0, 4.0])
        rollout["state"], rollout["next", "state"] = states[:, :-1], states[:, 1:]
    assert loss.estimate(rollout, consecutive=shared)["value_target"].flatten().tolist() == pytest.approx(
        RETURNS["next"]
    )
    assert rollout["slow_value_target"].flatten().tolist() == pytest.approx(SLOW_RETURNS["next"])
    assert evaluated == [3, 1, 3, 1] if shared else [3, 3, 3, 3]


@pytest.mark.parametrize("bootstrap", ["next", "current"])
def test_lambda_returns_by_hand(bootstrap):
    rollout = fake_loss(bootstrap).estimate(fake_rollout())
    assert rollout["state_value"].flatten().tolist() == [1.0, 2.0, 3.0]
    assert rollout["value_target"].flatten().tolist() == pytest.approx(RETURNS[bootstrap])
    assert rollout["slow_value_target"].flatten().tolist() == pytest.approx(SLOW_RETURNS[bootstrap])
    wanted = [target - value for target, value in zip(RETURNS[bootstrap], [1, 2, 3], strict=True)]
    assert rollout["advantage"].flatten().tolist() == pytest.approx(wanted)
    assert not any(leaf.requires_grad for leaf in rollout.values(True, True))


@pytest.mark.parametrize("bootstrap", ["next", "current"])
def test_lambda_returns_of_long_random_rollouts(bootstrap):
    """The recursions of STORM, written as they stand there."""
    generator = torch.Generator().manual_seed(0)
    values, rewards = (torch.randn(4, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    values = torch.cat([values, torch.randn(4, 1, generator=generator, dtype=torch.float64)], 1)
    ends = torch.rand(4, 11 + 1, generator=generator) < 0.2
    after = {"state": values[:, 1:, None], "reward": rewards[..., None], "done": ends[..., None]}
    after["terminated"] = after["done"]
    rollout = TensorDict({"state": values[:, :-1, None], "next": after}, [4, 12])
    returns = values[:, -1]
    for t in reversed(range(12)):
        value = values[:, t] if bootstrap == "current" else values[:, t + 1]
        returns = rewards[:, t] + GAMMA * ~ends[:, t] * ((1 - LAMBDA) * value + LAMBDA * returns)
    came = fake_loss(bootstrap).double().estimate(rollout)["value_target"]
    torch.testing.assert_close(came[:, 0, 0], returns)


@pytest.mark.parametrize(("gamma", "lmbda", "wanted"), [(0.9, 0.0, [2.8, 2.0, 6.6]), (0.0, 0.95, [1.0, 2.0, 3.0])])
def test_lambda_or_gamma_of_zero(gamma, lmbda, wanted):
    loss = fake_loss()
    loss = GLAMCriticLoss(loss.critic_network, torch.tensor([0.0, 1.0, 2.0]), gamma=gamma, lmbda=lmbda)
    SoftUpdate(loss, tau=0.02)
    assert loss.estimate(fake_rollout())["value_target"].flatten().tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("bootstrap", ["next", "current"])
@pytest.mark.parametrize("estimated", [False, True])
def test_critic_loss_by_hand(bootstrap, estimated):
    loss, rollout = fake_loss(bootstrap), fake_rollout()
    terms = loss(loss.estimate(rollout.clone()) if estimated else rollout)
    returns, slow_returns = RETURNS[bootstrap], SLOW_RETURNS[bootstrap]
    assert set(terms.keys()) == {"loss_critic", "loss_slow_critic", "value_error"}
    assert terms["loss_critic"].item() == pytest.approx(sum(map(cross_entropy, returns)) / 3, rel=1e-5)
    assert terms["loss_slow_critic"].item() == pytest.approx(sum(map(cross_entropy, slow_returns)) / 3, rel=1e-5)
    error = sum(abs(target - value) for target, value in zip(returns, [1, 2, 3], strict=True)) / 3
    assert terms["value_error"].item() == pytest.approx(error, rel=1e-5)
    assert not terms["value_error"].requires_grad
    assert set(rollout.keys()) == {"state", "next"}, "the rollout is not written to"


def test_targets_that_are_there_are_used():
    loss, rollout = fake_loss(), fake_loss().estimate(fake_rollout())
    rollout["slow_value_target"] = column([0.0, 0.0, 0.0])
    assert loss(rollout)["loss_slow_critic"].item() == pytest.approx(-math.log(0.2))


def test_returns_are_not_estimated_across_rollouts():
    """A flattened batch has lost where one rollout ends; its targets, estimated before, are as good as ever."""
    loss, rollout = fake_loss(), fake_rollout()
    for run in (loss, loss.estimate):
        with pytest.raises(UsageError, match=r"has shape \(\d+,\): GLAMCriticLoss wants \[b n\] .*before you flatten"):
            run(rollout.reshape(-1))
    estimated = loss.estimate(rollout.clone())
    wanted = loss(estimated)
    for key, term in loss(estimated.reshape(-1)).items():
        torch.testing.assert_close(term, wanted[key])


def test_only_the_critic_is_trained():
    loss = fake_loss()
    terms = loss(fake_rollout())
    (terms["loss_critic"] + terms["loss_slow_critic"]).backward()
    assert loss.critic_network_params["module", "logits"].grad.abs().sum() > 0
    assert loss.critic_network_params["module", "scale"].grad is None, "no gradient through the targets"
    for name, leaf in loss.target_critic_network_params.items(True, True):
        assert not leaf.requires_grad, name
        assert leaf.grad is None, name


def test_soft_update_moves_the_slow_critic():
    loss = fake_loss(slow_scale=2.0)
    updater = SoftUpdate(loss, tau=0.02)
    loss.target_critic_network_params["module", "scale"].data.fill_(2.0)  # SoftUpdate starts from a fresh copy
    updater.step()
    assert loss.target_critic_network_params["module", "scale"].item() == pytest.approx(0.98 * 2 + 0.02 * 1)
    assert loss.critic_network_params["module", "scale"].item() == 1.0


def test_keys_of_the_critic_loss_can_be_set():
    critic = TensorDictModule(FakeCritic(), in_keys=["state"], out_keys=["critic_logits", "critic_value"])
    loss = GLAMCriticLoss(critic, torch.tensor([0.0, 1.0, 2.0]), gamma=GAMMA, lmbda=LAMBDA)
    SoftUpdate(loss, tau=0.02)
    loss.set_keys(
        value="critic_value",
        value_logits="critic_logits",
        value_target="target",
        slow_value_target=("slow", "target"),
        advantage="gain",
        reward=("agent", "reward"),
        done="over",
        terminated="lost",
    )
    plain = fake_rollout()
    moved = TensorDict(
        {
            "state": plain["state"],
            "next": {
                "state": plain["next", "state"],
                "agent": {"reward": plain["next", "reward"]},
                "over": plain["next", "done"],
                "lost": plain["next", "terminated"],
            },
        },
        [1, 3],
    )
    estimated = loss.estimate(moved.clone())
    assert estimated["target"].flatten().tolist() == pytest.approx(RETURNS["next"])
    assert estimated["slow", "target"].flatten().tolist() == pytest.approx(RETURNS["next"])
    assert "gain" in estimated
    for rollout in (moved, estimated):
        wanted = sum(map(cross_entropy, RETURNS["next"])) / 3
        assert loss(rollout)["loss_critic"].item() == pytest.approx(wanted, rel=1e-5)


def test_an_unknown_bootstrap_is_refused():
    with pytest.raises(UsageError, match="bootstrap is 'last': choose next or current"):
        fake_loss(bootstrap="last")


def test_a_real_critic_learns_a_constant_return():
    torch.manual_seed(0)
    critic = make_critic(3, 2, hidden=16)
    loss = GLAMCriticLoss(critic, critic.bins)
    SoftUpdate(loss, tau=0.02)
    ends = torch.ones(4, 5, 1, dtype=torch.bool)
    states = {"state": torch.randn(4, 5, 3), "belief": torch.randn(4, 5, 2)}
    after = {**states, "reward": torch.full((4, 5, 1), -7.5), "done": ends, "terminated": ends}
    rollout = TensorDict({**states, "next": after}, [4, 5])
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        terms = loss(rollout)
        (terms["loss_critic"] + terms["loss_slow_critic"]).backward()
        optimizer.step()
    torch.testing.assert_close(critic(rollout)["state_value"], torch.full((4, 5, 1), -7.5), rtol=0.05, atol=0)


# The agent's update as the factory wires it


def test_span_of_the_returns_by_numbers():
    norm = PercentileValueNorm(rate=0.01)
    returns = torch.arange(101.0)[:, None]  # percentiles 5 and 95
    norm.update(returns)
    assert norm.scale().item() == 1.0, "0.01 * 90 is below 1"
    norm.update(returns)
    assert norm.scale().item() == pytest.approx(0.0199 * 90)


@pytest.mark.parametrize(
    ("number", "interpolated", "ranks"),
    [(20, (1.95, 19.05), (1, 19)), (30, (2.45, 28.55), (1, 28)), (3, (1.1, 2.9), (1, 2))],
)
def test_percentiles_of_the_returns_by_hand(number, interpolated, ranks):
    """Of 1 to m: the quantile q lies at 1 + q (m - 1), or is the int(q m)-th number."""
    returns = torch.randperm(number).add(1.0).reshape(-1, 1)
    for name, wanted in (("interpolated", interpolated), ("order_statistic", ranks)):
        norm = make_return_norm(name, rate=1.0)
        norm.update(returns.reshape(number, 1, 1))
        assert (norm.low.item(), norm.high.item()) == pytest.approx(wanted), name
        norm = make_return_norm(name, rate=0.25)
        norm.update(returns)
        assert norm.low.item() == pytest.approx(wanted[0] / 4)
    with pytest.raises(UsageError, match="return_percentiles is 'nearest': choose interpolated or order_statistic"):
        make_return_norm("nearest")


@pytest.fixture
def agent(make_world_model, shake):
    """Builds a config, an imagined env, actor, critic and their update, none at its initial values."""

    def build(reward_scale, bootstrap="next", **rates):
        config = GLAMConfig()
        config.agent_optimizer.lr = rates.get("lr", config.agent_optimizer.lr)
        config.agent.slow_critic_rate = rates.get("slow_critic_rate", config.agent.slow_critic_rate)
        config.agent.hidden, config.imagination.batch_size = 8, 5
        config.agent.bootstrap = bootstrap
        config.agent.entropy_coeff = 0.05  # larger than the paper's, to be seen in the sum
        world_model = make_world_model()
        world_model.reward_head.logits.weight.data *= reward_scale
        nn.init.constant_(world_model.termination_head.logit.bias, -0.5)  # some episodes end
        spec = OneHot(3)
        actor = factory.make_actor(config, world_model, spec)
        env = factory.make_imagined_env(config, world_model, spec)
        update = factory.make_policy_update(config, env, actor)
        critic = update.objective.critic
        shake(actor, 0.5), shake(critic, 0.3, seed=1)
        critic.module.head.logits.weight.data *= reward_scale
        loss = update.objective.critic_loss  # its slow copy begins as the critic
        loss.target_critic_network_params.data.update_(loss.critic_network_params.data)
        return config, env, actor, critic, update

    return build


def spy_on(monkeypatch, env):
    """Keep rollouts and gradients of updates, and count updates of the return norm."""
    rollouts, gradients, norms = [], [], []
    imagine, step, update = env.imagine, policy.optimizer_step, PercentileValueNorm.update

    def keep_rollout(*arguments):
        rollouts.append(imagine(*arguments))
        return rollouts[-1].clone()

    def keep_gradients(loss, parameters, optimizer, max_norm):
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        gradients.append([parameter.grad.clone() for parameter in parameters])
        return step(loss, parameters, optimizer, max_norm)

    def count(norm, value_target):
        norms.append(norm)
        return update(norm, value_target)

    env.imagine = keep_rollout
    monkeypatch.setattr(policy, "optimizer_step", keep_gradients)
    monkeypatch.setattr(PercentileValueNorm, "update", count)
    return rollouts, gradients, norms


def two_hot_value(logits):
    expectation = (logits.softmax(-1) * torch.linspace(-20, 20, 255, dtype=logits.dtype)).sum(-1)
    return expectation.sign() * expectation.abs().expm1()


def written_out(config, rollout, actor, critic, slow_critic, ema):
    """REINFORCE with lambda returns, and the critic's loss, from plain networks; also the span's new averages."""
    options = config.agent
    inputs = torch.cat([rollout["state"], rollout["belief"]], -1)
    inputs_after = torch.cat([rollout["next", "state"], rollout["next", "belief"]], -1)
    rewards = rollout["next", "reward"].squeeze(-1)
    goes_on = 1 - rollout["next", "terminated"].squeeze(-1).float()

    def returns_under(network):
        with torch.no_grad():
            value, value_after = two_hot_value(network(inputs)), two_hot_value(network(inputs_after))
            current = value_after[:, -1]
            returns = []
            for t in reversed(range(rewards.shape[1])):
                bootstrap = value_after[:, t] if options.bootstrap == "next" else value[:, t]
                current = rewards[:, t] + options.gamma * goes_on[:, t] * (
                    (1 - options.lmbda) * bootstrap + options.lmbda * current
                )
                returns.insert(0, current)
            return torch.stack(returns, 1), value

    returns, value = returns_under(critic)
    slow_returns, _ = returns_under(slow_critic)
    ordered = returns.flatten().sort().values

    def percentile(share):
        place = share * (len(ordered) - 1)
        low = int(place)
        return (ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])).item()

    ema = [0.99 * old + 0.01 * percentile(share) for old, share in zip(ema, (0.05, 0.95), strict=True)]
    scale = max(1.0, ema[1] - ema[0])
    log_p = actor(inputs).log_softmax(-1)
    chosen = (log_p * rollout["action"]).sum(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    policy = -(chosen * (returns - value) / scale).mean() - options.entropy_coeff * entropy.mean()

    def cross_entropy(target):
        place = ((target.sign() * target.abs().log1p()).clamp(-20, 20) + 20) / 40 * 254
        weights = (1 - (place[..., None] - torch.arange(255)).abs()).clamp_min(0)
        return -(weights * critic(inputs).log_softmax(-1)).sum(-1).mean()

    return policy, cross_entropy(returns) + cross_entropy(slow_returns), ema, scale, returns


@pytest.mark.parametrize("bootstrap", ["next", "current"])
@pytest.mark.parametrize("reward_scale", [1.0, 5.0], ids=["span below 1", "span above 1"])
def test_update_is_reinforce_with_lambda_returns(agent, make_batch, monkeypatch, bootstrap, reward_scale):
    # The rates are larger than the paper's, so that three updates show them.
    config, env, actor, critic, update = agent(reward_scale, bootstrap, lr=0.02, slow_critic_rate=0.3)
    rollouts, gradients, norms = spy_on(monkeypatch, env)
    ema, scales = [0.0, 0.0], []
    layers, critic_layers = actor.module[0].module, critic.module.head

    def actor_of(inputs):
        return layers.output(layers.trunk(inputs))

    slow = make_critic(12, 8, hidden=8)
    slow.load_state_dict(critic.state_dict())
    for index in range(3):
        torch.manual_seed(index)
        before = [parameter.clone() for parameter in (*actor.parameters(), *critic.parameters())]
        slow_layers = slow.module.head
        # What the update should do, from the parameters before it: so run it, look, and go back.
        metrics = update(make_batch(5, 6, seed=index), 4)
        after = [parameter.clone() for parameter in (*actor.parameters(), *critic.parameters())]
        for parameter, value in zip((*actor.parameters(), *critic.parameters()), before, strict=True):
            parameter.data.copy_(value)
        policy, value, ema, scale, returns = written_out(
            config, rollouts[index], actor_of, critic_layers, slow_layers, ema
        )
        wanted = torch.autograd.grad(policy + value, [*actor.parameters(), *critic.parameters()])
        for place, (came, right) in enumerate(zip(gradients[index], wanted, strict=True)):
            tolerance = 1e-4 * right.abs().max().item() + 1e-6
            torch.testing.assert_close(came, right, rtol=1e-3, atol=tolerance, msg=lambda text, p=place: f"{p}: {text}")
        came = metrics["loss_objective"] + metrics["loss_entropy"]
        torch.testing.assert_close(came, policy.detach(), rtol=1e-3, atol=1e-4)
        came = metrics["loss_critic"] + metrics["loss_slow_critic"]
        torch.testing.assert_close(came, value.detach(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(metrics["imagined_return"], returns.mean(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(metrics["imagined_reward"], rollouts[index]["next", "reward"].mean())
        assert metrics["return_scale"].item() == pytest.approx(scale, rel=1e-3)
        for parameter, value in zip((*actor.parameters(), *critic.parameters()), after, strict=True):
            parameter.data.copy_(value)
        for old, new in zip(slow.parameters(), critic.parameters(), strict=True):
            old.data.copy_(0.7 * old + 0.3 * new)
        scales.append(scale)
    assert len(norms) == 3, "once per update"
    assert (max(scales) > 1) == (reward_scale > 1)
    ends = torch.stack([rollout["next", "terminated"] for rollout in rollouts])
    assert 0 < ends.float().mean() < 1


def test_gradients_of_the_agent_stay_in_the_agent(agent, make_batch):
    _, env, actor, _, update = agent(1.0)
    before = {name: parameter.clone() for name, parameter in env.named_parameters()}
    metrics = update(make_batch(5, 6), 3)
    assert not any(value.requires_grad for value in metrics.values())
    for name, parameter in env.named_parameters():
        assert parameter.grad is None, name
        assert torch.equal(parameter, before[name]), name
    assert all(parameter.grad.abs().sum() > 0 for parameter in actor.parameters())


def test_optimizer_is_the_papers(agent, make_batch, monkeypatch):
    *_, update = agent(20.0)
    steps = []
    step = policy.optimizer_step

    def keep(loss, parameters, optimizer, max_norm):
        norm = step(loss, parameters, optimizer, max_norm)
        clipped = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()
        steps.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["eps"], max_norm, norm, clipped))
        return norm

    monkeypatch.setattr(policy, "optimizer_step", keep)
    update(make_batch(5, 6), 3)
    lr, eps, max_norm, norm, clipped = steps[0]
    assert (lr, eps, max_norm) == (3e-5, 1e-5, 100.0)
    torch.testing.assert_close(clipped, norm.clamp_max(100.0), rtol=1e-4, atol=1e-4)
