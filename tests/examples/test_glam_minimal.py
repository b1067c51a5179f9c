"""The algorithm in one file: from the same weights and the same draws it computes what the package computes."""

from __future__ import annotations

import ast
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import PercentileValueNorm
from torchrl.objectives import A2CLoss, SoftUpdate

from tests.support.games import CatchBall
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor, make_critic
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "glam_minimal.py"
minimal = SimpleNamespace(**runpy.run_path(str(EXAMPLE)))
SIZES: dict[str, Any] = {"channels": (2, 3, 4, 5), "k": 3, "c": 4, "d": 8, "hidden": 12}
STATE, WIDTH, HIDDEN, ACTIONS = 3 * 4, 8, 12, 3
FLOAT = torch.float64

# The names of the package's parameters that the example leaves out or changes, in this order.
RENAMED = {
    "encoder.head": "encoder.13",
    "deconvolutions.": "",
    "convolutions.": "",
    "mamba.layers.0.mamba.": "mamba.",
    "mamba.layers.0.": "mamba.",
    "gmamba.output": "global_output",
    "lmamba.output": "local_output",
    "embedding.layers": "embedding",
    "prior_head.linear": "prior_head",
    "termination_head.trunk": "termination_head",
    "termination_head.logit": "termination_head.6",
    "module.0.module.trunk.": "",
    "module.0.module.output": "6",
    "module.head.": "",
}


def rename(name: str) -> str:
    """The example's name of a parameter of the package."""
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def load(module: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Load the package's weights into a module of the example, every one of them."""
    module.load_state_dict({rename(name): value for name, value in state_dict.items()})


def check_gradients(module: nn.Module, package: nn.Module) -> None:
    """Compare the gradients of all parameters, none of which is zero throughout."""
    gradients = {rename(name): parameter.grad for name, parameter in package.named_parameters()}
    assert gradients.keys() == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        assert gradients[name].any(), name
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: n + m)


def exact_bins(head: nn.Module) -> None:
    """Make the grid exactly uniform, as the example's two-hot code takes it to be; in float32 it is so to 1e-6."""
    head.bins.copy_(torch.linspace(-20, 20, 255, dtype=FLOAT))


@pytest.fixture(params=[1.0, 0.0], ids=["trained", "fresh"])
def models(request, shake):
    """The package's world model and the example's, with the same weights, in float64.

    With noise on all weights the KLs are above their free nats, and no initial zero hides a mistake.
    """
    torch.manual_seed(0)
    package = GLAMWorldModel(
        ACTIONS, GLAMDynamics(WIDTH), channels=SIZES["channels"], num_categoricals=SIZES["k"], num_classes=SIZES["c"]
    )
    package = shake(package.to(FLOAT), request.param)
    config = minimal.Config()
    vars(config).update(SIZES)
    ours = minimal.WorldModel(ACTIONS, config).to(FLOAT)
    exact_bins(package.reward_head)
    exact_bins(ours.reward_head)
    package(TensorDict({"pixels": frames(8, 4), "action": actions(8, 4)}, [8, 4]))  # BatchNorm has seen something
    load(ours, package.state_dict())
    return package, ours, request.param > 0


@pytest.fixture
def imagination(models, shake):
    """The imagined env and the actor of the package, the example's world model and agent."""
    package, ours, _ = models
    actor = shake(make_actor(STATE, WIDTH, OneHot(ACTIONS), HIDDEN).to(FLOAT), 1.0)
    agent = minimal.Agent(STATE + WIDTH, HIDDEN, ACTIONS).to(FLOAT)
    load(agent.actor, actor.state_dict())
    return GLAMImaginedEnv(package.eval(), OneHot(ACTIONS)), actor, ours.eval(), agent


def frames(batch: int, time: int) -> Tensor:
    """Random frames [b t 64 64 3]."""
    return torch.randint(256, (batch, time, 64, 64, 3), dtype=torch.uint8)


def actions(batch: int, time: int) -> Tensor:
    """Random actions [b t a]."""
    return nn.functional.one_hot(torch.randint(ACTIONS, (batch, time)), ACTIONS).to(FLOAT)


def close(ours: Tensor, package: Tensor) -> None:
    """Compare to about 1e-9."""
    torch.testing.assert_close(ours, package, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("time", [1, 2, 3, 4, 5, 9])
def test_the_beliefs_are_the_same_for_any_length(models, time):
    package, ours, _ = models
    z, a = torch.randn(2, time, STATE, dtype=FLOAT), actions(2, time)
    beliefs, variation, _ = package.dynamics.forward_variation(package.embedding(z, a))
    h, u_g, _ = ours.beliefs(z, a)
    close(h, beliefs)
    close(u_g, variation)


@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_a_memory_continues_where_the_package_does(models, context):
    package, ours, _ = models
    z, a = torch.randn(2, 10, STATE, dtype=FLOAT), actions(2, 10)
    tokens = package.embedding(z, a)
    _, memory = package.dynamics(tokens[:, :context])
    _, _, ours_memory = ours.beliefs(z[:, :context], a[:, :context])
    for t in range(context, 10):
        belief, memory = package.dynamics.step(tokens[:, t], memory)
        h, _, ours_memory = ours.beliefs(z[:, t : t + 1], a[:, t : t + 1], ours_memory)
        close(h[:, 0], belief)


def test_the_terms_of_equation_12_and_their_gradients_are_the_same(models):
    package, ours, trained = models
    x, a = frames(3, 9), actions(3, 9)
    r, c = 3 * torch.randn(3, 9, dtype=FLOAT), torch.rand(3, 9) < 0.3
    outcome = {"reward": r[..., None], "life_loss": c[..., None]}
    torch.manual_seed(1)  # the same latents
    terms = GLAMModelLoss(package.train())(TensorDict({"pixels": x, "action": a, "next": outcome}, [3, 9]))
    torch.manual_seed(1)
    losses = ours.train().loss(x.to(FLOAT), a, r, c.to(FLOAT))
    expected = {name.removeprefix("loss_"): value for name, value in terms.items() if name.startswith("loss_")}
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        close(value, expected[name])
    kls = {"dynamics": 0.5, "representation": 0.1, "variation": 0.1}  # at one free nat
    assert all((losses[name] > nats * 1.01 if trained else losses[name] == nats) for name, nats in kls.items())
    for name, value in package.named_buffers():  # BatchNorm's
        close(dict(ours.named_buffers())[rename(name)], value)
    if trained:
        sum(expected.values()).backward()
        sum(losses.values()).backward()
        check_gradients(ours, package)


def test_free_nats_bound_the_mean_not_each_step():
    """One step of no divergence and one of about 4 nats: the mean is 2, where a bound on each step would give 2.5."""
    q = torch.full((1, 2, 3, 2), 0.5)  # [b t k c]
    p = q.clone()
    p[:, 1] = torch.tensor([0.983, 0.017])
    last = 3 * math.log(0.5 / math.sqrt(0.983 * 0.017))
    torch.testing.assert_close(minimal.kl(q.log(), p.log()), torch.tensor(last / 2))
    assert minimal.kl(q.log()[:, :1], p.log()[:, :1]) == 1


@torch.no_grad()
def test_an_imagined_rollout_is_the_same(imagination):
    env, actor, ours, agent = imagination
    x, a = frames(16, 5), actions(16, 5)
    torch.manual_seed(2)
    rollout = env.imagine(env.start(x, a), actor, horizon=7)
    torch.manual_seed(2)
    states, imagined, rewards, ends = minimal.imagine(ours, agent.actor, 7, minimal.sample(ours.encode(x.to(FLOAT))), a)
    close(states[:, :-1], torch.cat([rollout["state"], rollout["belief"]], -1))
    close(states[:, 1:], torch.cat([rollout["next", "state"], rollout["next", "belief"]], -1))
    assert torch.equal(imagined, rollout["action"])
    assert 0 < imagined[..., 0].double().mean() < 1
    close(rewards, rollout["next", "reward"].squeeze(-1))
    assert torch.equal(ends, rollout["next", "terminated"].squeeze(-1))


@torch.no_grad()
@set_exploration_type(ExplorationType.RANDOM)
def test_acting_is_the_first_step_of_imagination(imagination):
    env, actor, ours, agent = imagination
    policy = GLAMPolicy(env.transition.world_model, actor, OneHot(ACTIONS))
    x, context = frames(8, 20), []
    empty = policy.make_tensordict_primer().primers.expand(8).zero()["context"]
    step = TensorDict({"context": empty.update({"state": empty["state"].to(FLOAT)})}, [8])
    for t in range(20):
        torch.manual_seed(t)
        step = policy(step.set("pixels", x[:, t]))
        torch.manual_seed(t)
        z = minimal.sample(ours.encode(x[:, t : t + 1].to(FLOAT)))
        if context:
            _, action, *_ = minimal.imagine(ours, agent.actor, 1, *map(torch.hstack, zip(*context[-16:], strict=True)))
            assert torch.equal(action[:, 0], step["action"]), t
        context.append((z, step["action"][:, None]))
        step = TensorDict({"context": step["next", "context"]}, [8])


@pytest.mark.parametrize("quantiles", [(0.0, 0.0), (-2.0, 3.0)], ids=["no scale yet", "scaled"])
def test_the_losses_of_actor_and_critic_and_their_gradients_are_the_same(imagination, shake, quantiles):
    env, actor, _, agent = imagination
    critic = shake(make_critic(STATE, WIDTH, HIDDEN).to(FLOAT))
    exact_bins(critic.module.head)
    norm = PercentileValueNorm(rate=0.01).to(FLOAT)
    (levels,) = (buffer for buffer in norm.buffers() if len(buffer) == 2)
    levels.copy_(torch.tensor([0.05, 0.95], dtype=FLOAT))  # torchrl has rounded them to float32, and the next two
    actor_loss = A2CLoss(actor, critic, critic_coeff=None, entropy_coeff=3e-4, advantage_norm=norm)
    critic_loss = GLAMCriticLoss(critic).to(FLOAT)
    critic_loss.value_estimator.gamma.fill_(critic_loss.gamma)
    critic_loss.value_estimator.lmbda.fill_(critic_loss.lmbda)
    SoftUpdate(critic_loss, tau=0.02)  # torchrl warns of a loss without one
    load(agent.critic, critic.state_dict())
    load(agent.slow_critic, shake(make_critic(STATE, WIDTH, HIDDEN).to(FLOAT), seed=1).state_dict())
    exact_bins(agent.critic)
    exact_bins(agent.slow_critic)
    slow = {f"module.head.{name}": value for name, value in agent.slow_critic.named_parameters()}
    for name, value in critic_loss.target_critic_network_params.flatten_keys(".").items():
        if name in slow:
            value.data.copy_(slow[name])
    agent.quantiles.copy_(torch.tensor(quantiles))
    norm.low.fill_(quantiles[0])
    norm.high.fill_(quantiles[1])

    with torch.no_grad():
        rollout = env.imagine(env.start(frames(32, 4), actions(32, 4)), actor, horizon=6)
        rollout["next", "reward"] = 2 * torch.randn(32, 6, 1, dtype=FLOAT)
        ends = torch.rand(32, 6, 1) < 0.2
        rollout["next", "done"], rollout["next", "terminated"] = ends, ends.clone()
        critic_loss.estimate(rollout)
        norm.update(rollout["value_target"])
    expected_actor, expected_critic = actor_loss(rollout), critic_loss(rollout)

    following = rollout["next"][:, -1:]
    states = [torch.cat([part["state"], part["belief"]], -1) for part in (rollout, following)]
    r, c = rollout["next", "reward"].squeeze(-1), ends.squeeze(-1)
    losses = agent.loss(torch.cat(states, 1), rollout["action"], r, c)
    for critic_copy, target in ((agent.critic, "value_target"), (agent.slow_critic, "slow_value_target")):
        values = critic_copy(torch.cat(states, 1))
        close(minimal.lambda_return(r, c, values), rollout[target].squeeze(-1))
    assert (rollout["value_target"] - rollout["slow_value_target"]).abs().mean() > 0.01
    close(agent.quantiles, torch.cat([norm.low, norm.high]))
    assert (norm.scale() > 1) == (quantiles[1] > 0)
    close(losses["actor"], expected_actor["loss_objective"] + expected_actor["loss_entropy"])
    close(losses["critic"], expected_critic["loss_critic"] + expected_critic["loss_slow_critic"])

    sum(losses.values()).backward()
    terms = [expected_actor["loss_objective"], expected_actor["loss_entropy"]]
    sum([*terms, expected_critic["loss_critic"], expected_critic["loss_slow_critic"]]).backward()
    check_gradients(agent.actor, actor)
    check_gradients(agent.critic, critic)
    assert all(parameter.grad is None for parameter in agent.slow_critic.parameters())


def test_the_game_is_that_of_the_tests():
    torch.manual_seed(3)
    ours, game = minimal.CatchBall(), CatchBall()
    game.reset(seed=0)
    total, ended = 0.0, False
    while not ended:
        game.ball = ours.balls[ours.t // 12]
        assert torch.equal(ours.draw(), torch.from_numpy(game._draw()))
        action = int(torch.randint(3, ()))
        reward, ended = ours.step(action)
        assert (reward, ended) == game.step(action)[1:3]
        total += reward
    assert ours.t == 60
    assert 0 < total < 5


def test_an_update_clips_the_gradient():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    minimal.update(torch.optim.SGD([weight], 1.0), {"one": (weight**2).sum() / 2, "two": weight.sum() * 0}, 0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([2.7, 3.6]))


def test_it_trains_as_it_says(monkeypatch):
    """The slow critic follows the critic, BatchNorm's mode, and the optimizers."""
    seen, made, loss, adam = [], [], minimal.Agent.loss, torch.optim.Adam

    def spy(agent, *rollout):
        copies = (agent.critic, agent.slow_critic)
        seen.append([torch.cat([p.detach().flatten().clone() for p in copy.parameters()]) for copy in copies])
        states, a, r, c = rollout
        assert (states.shape, a.shape, r.shape, c.shape) == ((4, 4, 20), (4, 3, 3), (4, 3), (4, 3))
        return loss(agent, *rollout)

    def make(parameters, lr, eps=1e-8):
        made.append((lr, eps))
        return adam(parameters, lr, eps=eps)

    monkeypatch.setattr(minimal.Agent, "loss", spy)
    monkeypatch.setattr(torch.optim, "Adam", make)
    sizes = {**SIZES, "batch": 2, "length": 8, "starts": 4, "context": 2, "horizon": 3}
    returns = minimal.main(frames=70, warmup=62, every=4, **sizes)
    assert len(returns) == 1
    assert 0 <= returns[0] <= 5
    assert len(seen) == 2
    (_, slow), (new, moved) = seen
    assert (new - slow).abs().max() > 1e-4
    torch.testing.assert_close(moved - slow, 0.02 * (new - slow), rtol=0.01, atol=1e-7)
    assert made == [(1e-3, 1e-8), (3e-4, 1e-5)]


def test_it_runs_as_a_script_and_reports(monkeypatch, capsys):
    options = {"frames": 1000, "warmup": 996, "batch": 2, "starts": 4, "d": 16, "model_lr": 1e-4}
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *(f"{name}={value}" for name, value in options.items())])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["frame 500", "frame 1000"]
    assert all(0.4 < float(line.split()[-1]) < 2.5 for line in lines), "random play"


def test_an_unknown_option_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        minimal.main(nonsense=2)


def test_it_is_one_short_file_of_plain_torch():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines())) <= 120
    tree = ast.parse(text)
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert {module.split(".")[0] for module in imported} <= {"torch", "numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("option", ["--x", "--help", "seed", "seed=x", "seed=1.5", "channels=8", "nothing=1", "c=1=2"])
def test_a_wrong_option_is_answered_in_one_line(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), option])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().err == f"{option}: give NAME=NUMBER, a name and a number as in Config\n"
