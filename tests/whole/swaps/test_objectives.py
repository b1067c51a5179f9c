"""Every objective by one option: TorchRL's own losses, on what imagination gives them."""

from __future__ import annotations

import copy
import re
import sys

import pytest
import torch
from torch import nn
from torchrl.objectives import A2CLoss, ClipPPOLoss, DiscreteSACLoss, ReinforceLoss

from tests.support.configs import load
from tests.support.paths import CONFIGS
from tests.support.trained import OBJECTIVES, Trained
from torchrl_glam.command.cli import command_line
from torchrl_glam.config.checks import check_config
from torchrl_glam.errors import UsageError
from torchrl_glam.training import policy


@pytest.mark.long
@pytest.mark.parametrize("dynamics", ["glam", "storm"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fifty_updates_stay_finite_and_train_the_agent_alone(objective, dynamics):
    trained = Trained(f"objective={objective}", f"dynamics={dynamics}")
    trained.update()
    saved, world_model = trained.state(), copy.deepcopy(trained.world_model)
    metrics = trained.update_policy(trained.contexts.sample(), 4)
    for before, after in zip(world_model.parameters(), trained.world_model.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    after = trained.state()
    assert set(after) >= {"actor", "loss" if objective == "discrete_sac" else "critic"}
    for name in after:
        assert any(not torch.equal(saved[name][key], value) for key, value in after[name].items()), name
    for step in range(48):
        metrics = trained.update() if step % 8 == 0 else trained.update_policy(trained.contexts.sample(), 4)
        assert all(value.isfinite().all() for value in metrics.values()), metrics
    for module in (trained.world_model, *trained.update_policy.networks.values()):
        assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert {"imagined_reward", "grad_norm"} <= set(metrics.keys())


class Watched:
    """Counts the optimizer's steps of an update and keeps what was imagined."""

    def __init__(self, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.rollouts = [], []
        imagine, step = trained.imagined.imagine, policy.optimizer_step

        def keep(*arguments):
            self.rollouts.append(imagine(*arguments))
            return self.rollouts[-1]

        def count(*arguments):
            self.steps.append(1)
            return step(*arguments)

        trained.imagined.imagine = keep
        monkeypatch.setattr(policy, "optimizer_step", count)


@pytest.mark.parametrize(("objective", "loss"), [("a2c", A2CLoss), ("reinforce", ReinforceLoss)])
def test_on_policy_losses_are_torchrls_own_on_lambda_returns(monkeypatch, objective, loss):
    trained = Trained(f"objective={objective}")
    nn.init.normal_(trained.world_model.reward_head.logits.weight, std=0.3)  # some reward to learn from
    watched, options = Watched(trained, monkeypatch), trained.config.agent
    kwargs = {"entropy_coeff": options.entropy_coeff} if loss is A2CLoss else {}
    actor, critic = copy.deepcopy((trained.actor, trained.critic))
    metrics = trained.update_policy(trained.contexts.sample(), 4)
    (rollout,) = watched.rollouts
    inputs = rollout.select("state", "belief", "action", "next")
    value, after = (critic(part.select("state", "belief"))["state_value"] for part in (inputs, inputs["next"]))
    returns, following = [], after[:, -1]
    for step in reversed(range(4)):
        bootstrap = (1 - options.lmbda) * after[:, step] + options.lmbda * following
        going_on = ~inputs["next", "terminated"][:, step]
        following = inputs["next", "reward"][:, step] + options.gamma * going_on * bootstrap
        returns.insert(0, following)
    target = torch.stack(returns, 1).detach()
    inputs["value_target"], inputs["advantage"] = target, target - value.detach()
    expected = loss(actor, critic, **kwargs)(inputs)
    for key in [key for key in expected.keys() if key.startswith("loss_")]:  # noqa: SIM118
        torch.testing.assert_close(metrics[key], expected[key])
    assert inputs["advantage"].abs().max() > 0.01
    assert len(watched.steps) == 1


def test_ppo_takes_epochs_over_minibatches_that_share_out_the_rollout(monkeypatch):
    trained = Trained("objective=ppo", "objective.epochs=2", "objective.minibatches=3")
    watched, seen = Watched(trained, monkeypatch), []
    forward = ClipPPOLoss.forward
    monkeypatch.setattr(ClipPPOLoss, "forward", lambda self, batch: seen.append(batch.clone()) or forward(self, batch))
    metrics = trained.update_policy(trained.contexts.sample(), 4)
    (rollout,) = watched.rollouts
    assert len(watched.steps) == len(seen) == 6
    for epoch in (seen[:3], seen[3:]):
        beliefs = torch.cat([batch["belief"] for batch in epoch])
        assert sorted(map(tuple, beliefs.tolist())) == sorted(map(tuple, rollout["belief"].flatten(0, 1).tolist()))
    assert not torch.equal(seen[0]["belief"], seen[3]["belief"]), "each epoch draws anew"
    assert metrics["ESS"].ndim == 0, "metrics are means over the steps"
    assert metrics["kl_approx"] != 0, "later steps look at data of an older policy"


def test_dreamer_imagines_from_the_contexts_to_the_horizon(monkeypatch):
    trained = Trained("objective=dreamer_v3")
    lengths, started = [], []
    imagined, rollout = trained.imagined, type(trained.imagined).rollout

    def keep(self, max_steps, *args, **kwargs):
        started.append(kwargs["tensordict"].clone())
        result = rollout(self, max_steps, *args, **kwargs)
        lengths.append(result.shape[1])
        return result

    monkeypatch.setattr(type(imagined), "rollout", keep)
    contexts = trained.contexts.sample()
    torch.manual_seed(3)
    expected = imagined.start(contexts["pixels"], contexts["action"])
    torch.manual_seed(3)
    trained.update_policy(contexts, 5)
    assert lengths == [5]
    for key in ("state", "belief", ("memory", "gmamba", "previous")):
        torch.testing.assert_close(started[0][key], expected[key])


def test_sac_learns_from_a_bounded_buffer_of_imagined_transitions(monkeypatch):
    trained = Trained(
        "objective=discrete_sac", "objective.updates=3", "objective.capacity=50", "objective.batch_size=32"
    )
    watched = Watched(trained, monkeypatch)
    batches, forward = [], DiscreteSACLoss.forward
    monkeypatch.setattr(DiscreteSACLoss, "forward", lambda self, td: batches.append(td.clone()) or forward(self, td))
    for _ in range(2):
        trained.update_policy(trained.contexts.sample(), 4)
    imagined = torch.cat([rollout["belief"].flatten(0, 1) for rollout in watched.rollouts]).tolist()
    assert len(imagined) == 64
    assert len(watched.steps) == len(batches) == 6
    assert all(belief in imagined[14:] for belief in batches[-1]["belief"].tolist()), "the oldest 14 are overwritten"
    assert any(belief in imagined[14:32] for belief in batches[-1]["belief"].tolist()), "older ones are kept"


@pytest.mark.parametrize("scheme", ["glam", "ppo"])
def test_entropy_option_reaches_the_loss(scheme):
    metrics = {}
    for coefficient in (0.1, 0.2):
        trained = Trained(f"objective={scheme}", f"agent.entropy_coeff={coefficient}", "objective.minibatches=1")
        metrics[coefficient] = trained.update_policy(trained.contexts.sample(), 4)["loss_entropy"]
    assert metrics[0.2] == pytest.approx(2 * metrics[0.1].item(), rel=0.05)


@pytest.mark.parametrize("objective", ["glam", "a2c", "ppo", "reinforce"])
def test_continuous_actions_of_a_rendered_control_task(objective):
    trained = Trained(f"objective={objective}", "env.name=Pendulum-v1", "env.observation=pixels")
    for _ in range(2):
        metrics = trained.update()
        assert all(value.isfinite().all() for value in metrics.values())
    contexts = trained.contexts.sample()
    assert contexts["action"].shape == (8, 6, 1)
    rollout = trained.imagined.imagine(trained.imagined.start(contexts["pixels"], contexts["action"]), trained.actor, 3)
    assert rollout["action"].abs().max() <= 1
    assert rollout["action"].unique().numel() == rollout["action"].numel()


@pytest.mark.parametrize("objective", ["glam", "a2c"])
def test_the_bootstrap_of_the_released_code(objective):
    """V_t in place of V_{t+1}: with lambda 0, gamma 1 and no end, the target is r_t + V_t."""
    options = ["agent.bootstrap=current", "agent.lmbda=0", "agent.gamma=1"]
    trained = Trained(f"objective={objective}", *options)
    for module in (trained.critic, trained.world_model.reward_head, trained.world_model.termination_head):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
    nn.init.constant_(trained.world_model.termination_head.logit.bias, -100.0)
    contexts = trained.contexts.sample()
    with torch.no_grad():
        start = trained.imagined.start(contexts["pixels"], contexts["action"])
        rollout = trained.imagined.imagine(start, trained.actor, 4)
        trained.update_policy.objective.estimate(rollout)
    expected = rollout["next", "reward"] + rollout["state_value"]
    assert rollout["state_value"].std() > 1e-3
    torch.testing.assert_close(rollout["value_target"], expected)
    torch.testing.assert_close(rollout["advantage"], rollout["next", "reward"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("objective", ["dreamer_v3", "discrete_sac"])
def test_an_objective_without_such_a_return_refuses_the_bootstrap(objective):
    with pytest.raises(UsageError, match=f"objective={objective} has no return .*: add agent.bootstrap=next"):
        Trained(f"objective={objective}", "agent.bootstrap=current")


def test_discrete_sac_wants_discrete_actions():
    with pytest.raises(UsageError, match=r"objective=discrete_sac wants discrete actions.*: choose glam"):
        Trained("objective=discrete_sac", "env.name=Pendulum-v1", "env.observation=pixels")


def test_a_share_above_one_is_refused():
    with pytest.raises(UsageError, match=r"dropout=1.5: give a number from 0 to 1"):
        check_config(load("preset=paper", "dynamics=storm", "world_model.dynamics.dropout=1.5"))


ON_POLICY = "epochs, minibatches, loss, kwargs"
SEQUENCES = "width, num_layers, num_heads, dropout, max_length, norm_first, expand, activation"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("objective=custom", "objective=custom does not exist: choose one of a2c, .*, or give package.module.Class"),
        ("objective.name=ppo", "objective.name cannot be set by itself: choose a part as a whole, by objective="),
        ("world_model.dynamics=storm", "world_model.dynamics cannot be set by itself: .* by dynamics="),
        ("model_loss._target_=os.system", "model_loss._target_ is no option: give those below it, or choose dynamics"),
        ("run_dir=", "run_dir= is empty: give a value"),
        ("objective=ppo objective.updates=3", "no option objective.updates: .*objective=ppo has epochs, minibatches, "),
        ("objective=discrete_sac objective.epochs=3", "objective=discrete_sac has .*updates, batch_size, cap"),
        ("objective.minibatch=3", f"did you mean objective.minibatches. objective=glam has {ON_POLICY}$"),
        ("dynamics=custom", "dynamics=custom does not exist: choose one of .*glam, .*, or give package.module.Class"),
        ("world_model.dynamics.target=a.B", "no option world_model.dynamics.target: .*dynamics=glam has width, "),
        ("+world_model.dynamics.kwargs.depth=2", "no option world_model.dynamics.kwargs: the options there are width"),
        ("+training.foo=2", "no option training.foo: the options there are warmup_frames, "),
        ("dynamics=storm world_model.dynamics.window=8", f"dynamics.window: .*dynamics=storm has {SEQUENCES}$"),
        ("ablation=g1_l2 dynamics=storm", "ablation=g1_l2 sets .*_layers, but dynamics=storm has width, "),
        (
            "world_model.encoder.depth=2",
            "encoder.depth: encoder=auto has hidden, num_layers, difference$",
        ),
        ("world_model.reward_head.bins=2", "reward_head=two_hot has num_layers, num_bins, limit, decoding$"),
    ],
)
def test_options_that_would_mean_nothing_are_refused(monkeypatch, capsys, options, line):
    monkeypatch.setattr(sys, "argv", ["glam_atari", "preset=debug", *options.split()])
    with pytest.raises(SystemExit) as left:
        command_line(CONFIGS, "glam_atari")(lambda config: pytest.fail("was run"))()
    (said,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    assert re.search(line, said), said
