"""Swapping a part by one option: every objective, every backbone, every ablation, and classes of the user's."""

from __future__ import annotations

import copy

import pytest
import torch
from tensordict import TensorDict, TensorDictParams
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import A2CLoss, ClipPPOLoss, DiscreteSACLoss, LossModule, ReinforceLoss

from tests.test_switches import CONFIGS, flatten, load
from torchrl_glam import factory
from torchrl_glam.checks import check_config
from torchrl_glam.config import Backbone
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    GLAMDynamics,
    LMamba,
    MambaDynamics,
    ParallelDynamics,
    SequenceBackbone,
    TransformerDynamics,
)
from torchrl_glam.training import policy

CPU = torch.device("cpu")
GAME = "env.name=tests.games:CatchBall-v0"
SIZES = [
    "world_model.channels=[4,4,4,4]",
    "world_model.num_categoricals=8",
    "world_model.num_classes=8",
    "world_model.dynamics.width=16",
    "world_model.dynamics.d_state=4",
    "replay.batch_size=6",
    "replay.batch_length=12",
    "imagination.batch_size=8",
    "imagination.context_length=6",
    "imagination.horizon=4",
    "agent.hidden=16",
]
SMALL = ["preset=debug", GAME, *SIZES]
OBJECTIVES = ("glam", "a2c", "ppo", "reinforce", "dreamer_v3", "discrete_sac")
HERE = "tests.test_swaps"


class Trained:
    """A world model, an agent and their updates, on records of random play; ``sizes`` come first."""

    def __init__(self, *overrides: str, sizes: list[str] = SMALL, device: torch.device = CPU) -> None:
        config = self.config = load(*sizes, *overrides)
        check_config(config)
        factory.set_seeds(0)
        env = factory.make_env(config)
        spec = env.action_spec_unbatched
        self.world_model = factory.make_world_model(config, spec, device)
        self.imagined = factory.make_imagined_env(config, self.world_model, spec)
        self.actor, self.critic = factory.make_agent(config, self.world_model, spec)
        self.update_world_model = factory.make_world_model_trainer(config, self.world_model)
        self.update_policy = factory.make_policy_trainer(config, self.imagined, self.actor, self.critic)
        self.sequences, self.contexts = factory.make_replay(config, env, device)
        self.sequences.extend(env.rollout(160 // config.env.num_envs, break_when_any_done=False))

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a run would save of the agent."""
        return {name: copy.deepcopy(net.state_dict()) for name, net in self.update_policy.networks.items()}

    def update(self) -> TensorDict:
        """One update of each; the agent's metrics."""
        self.update_world_model(self.sequences.sample().to(self.imagined.device))
        return self.update_policy(self.contexts.sample(), self.config.imagination.horizon)


# Objectives


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
    trained = Trained(f"objective={objective}", "env.name=Pendulum-v1")
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["objective=custom"], "objective=custom wants a loss"),
        (["objective.name=ppo"], "objective.name=ppo does not go with .*A2CLoss"),
        (["objective=ppo", "objective.scheme=off_policy"], "does not go with objective.scheme=off_policy"),
        (["objective=ppo", "objective.updates=3"], "objective.updates=3 means nothing to objective=ppo"),
        (["objective=discrete_sac", "objective.epochs=3"], "objective.epochs=3 means nothing"),
        (["objective=dreamer_v3", "agent.bootstrap=current"], "add agent.bootstrap=next"),
        (["dynamics=custom"], "give dynamics=package.module.Class"),
        (["world_model.dynamics.target=a.B"], "give dynamics=package.module.Class"),
        (["+world_model.dynamics.kwargs.depth=2"], "give dynamics=package.module.Class"),
        (["dynamics=storm", "world_model.dynamics.dropout=1.5"], "dropout=1.5: give a number from 0 to 1"),
    ],
)
def test_options_that_would_mean_nothing_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        check_config(load("preset=paper", *options))


# Backbones


def parallel(kind: type[SequenceBackbone], backbone: ParallelDynamics, *depths: int) -> bool:
    branches = list(backbone.branches.values())
    return [type(branch) for branch in branches] == [kind, kind] and [len(b.layers) for b in branches] == list(depths)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("glam", lambda b: type(b) is GLAMDynamics and (len(b.gmamba.layers), len(b.lmamba.layers)) == (2, 3)),
        ("lmamba_only", lambda b: type(b) is LMamba and len(b.layers) == 3 and b.window == 5),
        ("double_mamba", lambda b: parallel(MambaDynamics, b, 2, 3)),
        ("storm", lambda b: type(b) is TransformerDynamics and len(b.layers) == 2),
        ("double_transformer", lambda b: parallel(TransformerDynamics, b, 2, 3)),
    ],
)
def test_a_backbone_by_one_option_with_its_depths(name, right):
    depths = ["world_model.dynamics.global_layers=2", "world_model.dynamics.local_layers=3"]
    config = load(*SMALL, f"dynamics={name}", *depths, "world_model.dynamics.window=5")
    backbone = factory.make_dynamics(config)
    assert backbone.width == 16
    assert right(backbone)


def test_a_transformer_remembers_the_longest_sequence_of_the_run():
    config = load("preset=paper", "dynamics=storm")
    assert factory.make_dynamics(config).max_length == 64
    config = load("preset=released", "dynamics=storm")
    assert factory.make_dynamics(config).max_length == 68
    config = load("preset=paper", "dynamics=storm", "imagination.starts=batch")
    assert factory.make_dynamics(config).max_length == 64 + 32
    config = load("preset=paper", "dynamics=storm", "world_model.dynamics.max_length=70")
    assert factory.make_dynamics(config).max_length == 70
    check_config(config)
    config = load("preset=paper", "dynamics=storm", "world_model.dynamics.max_length=63")
    with pytest.raises(UsageError, match=r"max_length=63 is too short .*, 64"):
        check_config(config)


# Ablations

ABLATIONS = {
    "none": set(),
    "without_g": {"world_model.dynamics.name", "model_loss.variation_coeff"},
    "without_g_and_l": {"world_model.dynamics.name", "model_loss.variation_coeff"},
    "double_mamba": {"world_model.dynamics.name", "model_loss.variation_coeff"},
    "double_transformer": {"world_model.dynamics.name", "model_loss.variation_coeff"},
    "without_variation_loss": {"model_loss.variation_coeff"},
    "g1_l1": set(),
    "g1_l2": {"world_model.dynamics.local_layers"},
    "g2_l1": {"world_model.dynamics.global_layers"},
    "g2_l2": {"world_model.dynamics.global_layers", "world_model.dynamics.local_layers"},
    "horizon_16": {"imagination.horizon_max"},
    "horizon_24": {"imagination.horizon_max"},
    "horizon_32": set(),
}


def test_every_ablation_is_tested_and_short():
    files = {file.stem: file for file in (CONFIGS / "ablation").glob("*.yaml")}
    assert set(files) == set(ABLATIONS)
    for file in files.values():
        assert len(file.read_text().splitlines()) <= 6, file


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_alone(name, preset):
    default, changed = flatten(load(f"preset={preset}")), flatten(load(f"preset={preset}", f"ablation={name}"))
    differ = {option for option in default if default[option] != changed[option]}
    wanted = ABLATIONS[name] | ({"ablation"} if name != "none" else set())
    if preset == "released" and name == "horizon_32":
        wanted = wanted | {"imagination.horizon_max"}  # 48 there
    assert differ == wanted
    assert changed["ablation"] == name


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "none"])
def test_an_ablation_trains(name):
    trained = Trained(f"ablation={name}")
    metrics = trained.update()
    assert all(value.isfinite().all() for value in metrics.values())
    terms = trained.update_world_model(trained.sequences.sample())
    assert ("loss_variation" in terms) == (trained.config.model_loss.variation_coeff > 0)


# Classes of the user's


class HalfLoss(LossModule):
    """Somebody's loss: REINFORCE on a share of the advantage, without a critic."""

    actor_network: TensorDictModule
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams

    def __init__(self, actor_network, critic_network, share=1.0):
        super().__init__()
        self.convert_to_functional(actor_network, "actor_network")
        self.share = share

    def forward(self, tensordict):
        with self.actor_network_params.to_module(self.actor_network):
            distribution = self.actor_network.get_dist(tensordict)
        log_prob = distribution.log_prob(tensordict["action"])
        return TensorDict({"loss_half": -(self.share * log_prob * tensordict["advantage"].squeeze(-1)).mean()}, [])


class Thirsty(HalfLoss):
    """A loss that reads what nobody wrote."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": tensordict["water"].mean()}, [])


class Declared(HalfLoss):
    """A loss that says so."""

    in_keys = ("action", ("next", "water"))


class Confused(HalfLoss):
    """A loss with a mistake of its own."""

    def forward(self, tensordict):
        return {"mine": 1}["yours"]


class Bare(HalfLoss):
    """A loss that returns a number."""

    def forward(self, tensordict):
        return super().forward(tensordict)["loss_half"]


class Wide(HalfLoss):
    """A loss that is not reduced."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": super().forward(tensordict)["loss_half"].expand(3)}, [])


class Idle(HalfLoss):
    """A loss that depends on nothing."""

    def forward(self, tensordict):
        return TensorDict({"loss_half": torch.tensor(1.0)}, [])


class Delayed(HalfLoss):
    """A loss with target parameters and a parameter of its own."""

    def __init__(self, actor_network, critic_network):
        LossModule.__init__(self)
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.share = nn.Parameter(torch.ones(()))


class Nameless(HalfLoss):
    """A loss whose term has no name of one."""

    def forward(self, tensordict):
        return TensorDict({"half": super().forward(tensordict)["loss_half"]}, [])


class Recurrent(SequenceBackbone):
    """Somebody's backbone: a GRU."""

    def __init__(self, width, num_layers=1):
        super().__init__(width)
        self.gru = nn.GRU(width, width, num_layers, batch_first=True)

    def forward(self, tokens):
        beliefs, hidden = self.gru(tokens)
        return beliefs, TensorDict({"hidden": hidden.transpose(0, 1)}, tokens.shape[:1])

    def step(self, token, memory):
        beliefs, hidden = self.gru(token.unsqueeze(1), memory["hidden"].transpose(0, 1).contiguous())
        return beliefs[:, 0], TensorDict({"hidden": hidden.transpose(0, 1)}, memory.batch_size)

    def initial_memory(self, batch_size):
        weight = next(self.parameters())
        return TensorDict({"hidden": weight.new_zeros(batch_size, self.gru.num_layers, self.width)}, [batch_size])


class Forgetful(Recurrent):
    """A backbone whose step is not its forward."""

    def step(self, token, memory):
        return super().step(token, memory.clone().zero_())


class Stepless(SequenceBackbone):
    """A backbone that lacks a method."""

    forward = Recurrent.forward
    initial_memory = Recurrent.initial_memory


def custom(kind: str, name: str) -> str:
    option = {"objective": "objective.loss", "dynamics": "world_model.dynamics.target"}[kind]
    return [f"{kind}=custom", f"{option}={HERE}.{name}"]


def test_a_loss_by_import_path_with_its_keyword_arguments():
    trained = Trained(*custom("objective", "HalfLoss"), "+objective.kwargs.share=0.5")
    before = copy.deepcopy(trained.actor)
    metrics = trained.update_policy(trained.contexts.sample(), 4)
    assert "loss_half" in metrics.keys()  # noqa: SIM118
    assert any(not torch.equal(*pair) for pair in zip(before.parameters(), trained.actor.parameters(), strict=True))


def test_a_backbone_by_import_path_with_its_keyword_arguments():
    trained = Trained(*custom("dynamics", "Recurrent"), "+world_model.dynamics.kwargs.num_layers=2")
    assert trained.world_model.dynamics.gru.num_layers == 2
    before = copy.deepcopy(trained.world_model.dynamics)
    trained.update()
    after = trained.world_model.dynamics
    assert all(not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True))
    assert trained.config.world_model.dynamics.name is Backbone.custom


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("objective", "Missing", r"objective=tests.test_swaps.Missing cannot be imported .*no attribute 'Missing'"),
        ("objective", "Recurrent", "is no subclass of torchrl.*LossModule"),
        ("objective", "Thirsty", "batch for Thirsty has no .*water.*: add it.*; it has .*action"),
        ("objective", "Declared", "batch for Declared has no .*'next', 'water'"),
        ("objective", "Nameless", "returned half: name what is to be minimised loss_"),
        ("objective", "Bare", "returned a Tensor: a TensorDict of scalars is wanted"),
        ("objective", "Wide", r"loss_half of shape \[3\]: reduce it"),
        ("objective", "Idle", "loss_half of the loss depend on no parameter"),
        ("dynamics", "Missing", "dynamics=tests.test_swaps.Missing cannot be imported"),
        ("dynamics", "HalfLoss", "is no subclass of .*SequenceBackbone"),
        ("dynamics", "Stepless", "Stepless.*step"),
        ("dynamics", "Forgetful", "step.*forward"),
    ],
)
def test_a_class_that_does_not_fit_is_told_what_is_missing(kind, name, message):
    with pytest.raises(UsageError, match=message) as refused:
        Trained(*custom(kind, name)).update()
    assert "\n" not in str(refused.value)


def test_a_key_error_of_the_losss_own_is_left_alone():
    with pytest.raises(KeyError, match="yours"):
        Trained(*custom("objective", "Confused")).update()


def test_target_parameters_and_parameters_of_a_loss_are_moved_and_saved():
    trained = Trained(*custom("objective", "Delayed"))
    nn.init.normal_(trained.world_model.reward_head.logits.weight, std=0.3)  # some reward to learn from
    before = trained.state()
    trained.update_policy(trained.contexts.sample(), 4)
    after = trained.state()
    assert set(after) == {"actor", "critic", "loss"}
    moved = {key for key, value in after["loss"].items() if not torch.equal(value, before["loss"][key])}
    assert "share" in moved
    assert any(key.startswith("target_actor_network_params") for key in moved)


def test_keyword_arguments_that_a_class_does_not_take():
    with pytest.raises(UsageError, match=r"cannot be made as HalfLoss\(.*water=\.\.\.\): .*unexpected keyword"):
        Trained(*custom("objective", "HalfLoss"), "+objective.kwargs.water=1")
