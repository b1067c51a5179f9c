"""Every switch between the paper's reading and the released code: it exists, and changes what it names alone."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, replace
from enum import Enum
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.support.configs import SPEC, TINY, flatten, load, tiny_world_model
from tests.support.paths import CONFIGS
from torchrl_glam import config as options
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.config.checks import check_config
from torchrl_glam.data.replay import make_replay
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import (
    GLAMDynamics,
    GLAMPolicy,
    GLAMWorldModel,
    MambaBlock,
    SlidingWindow,
    heads,
    make_actor,
    make_critic,
)
from torchrl_glam.modules.autoencoders import ImageEncoder
from torchrl_glam.modules.dynamics import GMamba, LMamba, ResidualMamba
from torchrl_glam.modules.heads import CategoricalHead
from torchrl_glam.modules.latent import unimix_logits
from torchrl_glam.objectives import GLAMCriticLoss, GLAMModelLoss
from torchrl_glam.objectives import functional as formulas
from torchrl_glam.objectives.returns import OrderStatisticNorm


@pytest.fixture
def batch(make_batch):
    """Real data [2 8] in the size of the environments."""
    return make_batch(2, 8, (64, 64, 3))


# The table

TABLE = {
    "variation target": ("model_loss.variation_target", "logits", "features"),
    "variation free nats": ("model_loss.variation_free_nats", 1.0, 0.1),
    "residual of the block": ("world_model.dynamics.post_norm", True, False),
    "first valid output": ("model_loss.first_valid", 3, 4),
    "horizon: step": ("imagination.horizon_step", 8, 1),
    "horizon: every": ("imagination.horizon_every", 25_000, 3125),
    "horizon: cap": ("imagination.horizon_max", 32, 48),
    "imagination context": ("imagination.context_length", 16, 8),
    "GMamba in imagination": ("imagination.memory", "carried", "sliding"),
    "replay batch": ("replay.newest", 0, 5),
    "return": ("agent.bootstrap", "next", "current"),
    "batch length": ("replay.batch_length", 64, 68),
    "norm before each Mamba": ("world_model.dynamics.norm_eps", 1e-5, 1e-6),
    "percentiles of the return": ("agent.return_percentiles", "interpolated", "order_statistic"),
    "short contexts: LMamba": ("world_model.dynamics.partial_windows", True, False),
    "short contexts: GMamba": ("world_model.dynamics.first_token", False, True),
    "acting context at an episode's end": ("agent.keep_context", False, True),
}


def test_presets_are_the_two_columns_of_the_table():
    paper, released = flatten(load("preset=paper")), flatten(load("preset=released"))
    differ = {name for name in paper if paper[name] != released[name]}
    assert differ == {"preset", *(name for name, _, _ in TABLE.values())}
    for row, (name, wanted_paper, wanted_released) in TABLE.items():
        assert (paper[name], released[name]) == (wanted_paper, wanted_released), row
    assert released["imagination.window"] == 8
    for column in (paper, released):
        assert column["agent.sees"] == "prior"
        assert column["agent.context_length"] == 16


def test_the_paper_is_the_default():
    assert flatten(load("preset=paper")) == flatten(replace(GLAMConfig(), preset="paper", run_dir="unused"))


PAPER = {
    "world_model.channels": [32, 64, 128, 256],
    "world_model.num_categoricals": 32,
    "world_model.num_classes": 32,
    "world_model.unimix": 0.01,
    "world_model.dynamics.width": 256,
    "world_model.dynamics.global_layers": 1,
    "world_model.dynamics.local_layers": 1,
    "world_model.dynamics.window": 4,
    "world_model.dynamics.d_state": 16,
    "world_model.dynamics.d_conv": 4,
    "world_model.dynamics.expand": 2,
    "model_loss.dynamics_coeff": 0.5,
    "model_loss.representation_coeff": 0.1,
    "model_loss.variation_coeff": None,  # 0.1 where the backbone has a variation
    "model_loss.free_nats": 1.0,
    "model_optimizer.lr": 1e-4,
    "model_optimizer.max_norm": 1000.0,
    "replay.batch_size": 32,
    "imagination.batch_size": 1024,
    "imagination.horizon": 16,
    "agent.hidden": 512,
    "agent.num_layers": 2,
    "agent.gamma": 0.985,
    "agent.lmbda": 0.95,
    "agent.entropy_coeff": 3e-4,
    "agent.slow_critic_rate": 0.02,
    "agent.return_norm_rate": 0.01,
    "agent_optimizer.lr": 3e-5,
    "agent_optimizer.eps": 1e-5,
    "agent_optimizer.max_norm": 100.0,
    "training.warmup_frames": 1024,
    "training.world_model_every": 1,
    "training.policy_every": 1,
    "total_frames": 100_000,
    "env.protocol": "glam",
}


def test_numbers_of_the_paper():
    values = flatten(load("preset=paper"))
    assert {name: values[name] for name in PAPER} == PAPER


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONFIGS / "preset").glob("*.yaml")))
def test_every_preset_composes_and_holds_together(preset):
    config = load(f"preset={preset}")
    assert isinstance(config, GLAMConfig)
    assert config.preset == preset
    check_config(config)


@pytest.mark.parametrize(
    ("preset", "horizons"),
    [("paper", [16, 16, 16, 16, 24, 32]), ("released", [16, 16, 17, 23, 24, 48])],
)
def test_horizons(preset, horizons):
    at = load(f"preset={preset}").imagination.horizon_at
    assert [at(frames) for frames in (0, 3124, 3125, 24_999, 25_000, 100_000)] == horizons
    for frames in range(0, 110_000, 625):
        by_hand = 16 + 8 * (frames // 25_000) if preset == "paper" else 16 + min(int(frames / 25_000 * 8), 32)
        assert at(frames) == (min(by_hand, 32) if preset == "paper" else by_hand)


@pytest.mark.parametrize("cap", [16, 24, 32])
def test_longest_horizon_is_an_option(cap):
    config = load("preset=paper", f"imagination.horizon_max={cap}")
    assert [config.imagination.horizon_at(frames) for frames in (0, 60_000)] == [16, cap]


# What each switch changes, through the objects that the factory makes


def terms_of(batch, *overrides, seed=0):
    """The terms of the world model's loss under these options, on the same weights and random numbers."""
    config = load("preset=paper", *TINY, *overrides)
    world_model = tiny_world_model(config)
    torch.manual_seed(5)
    loss = factory.make_world_model_update(config, world_model).loss.train()
    torch.manual_seed(seed)
    with torch.no_grad():
        return loss(batch)


def changed_terms(batch, override):
    before, after = terms_of(batch), terms_of(batch, override)
    assert set(before.keys()) == set(after.keys())
    return {key for key, value in before.items() if value != after[key]}


@pytest.mark.parametrize("target", ["latent", "features"])
def test_variation_target(batch, target):
    override = f"model_loss.variation_target={target}"
    assert changed_terms(batch, override) - {"loss_variation"} == {"kl_variation"}


@pytest.mark.parametrize("bound", [0.1, 50.0])
def test_variation_free_nats(batch, bound):
    before, after = terms_of(batch), terms_of(batch, f"model_loss.variation_free_nats={bound}")
    assert after["loss_variation"].item() == pytest.approx(0.1 * max(bound, before["kl_variation"].item()), rel=1e-5)
    assert all(before[key] == after[key] for key in before.keys() if key != "loss_variation")  # noqa: SIM118


def test_prior_temperature(batch):
    override = "world_model.prior_temperature=0.01"
    assert changed_terms(batch, override) == set(), "training only samples posteriors"
    world_model = tiny_world_model(load("preset=paper", *TINY, override))
    beliefs = torch.randn(50, 8)
    modes = torch.nn.functional.one_hot(world_model.prior_head(beliefs).argmax(-1), 4).flatten(-2)
    assert (world_model.predict_state(beliefs) * modes).sum() > 0.95 * modes.sum()


def test_expected_prior(batch):
    override = "world_model.expected_prior=true"
    assert changed_terms(batch, override) == set(), "training only samples posteriors"
    world_model = tiny_world_model(load("preset=paper", *TINY, override, "world_model.prior_temperature=0.5"))
    beliefs = torch.randn(50, 8)
    wanted = world_model.prior_head(beliefs).exp().square()
    torch.testing.assert_close(world_model.predict_state(beliefs).unflatten(-1, (-1, 4)), wanted / wanted.sum(-1, True))


def test_prior_layers():
    plain, deep = (tiny_world_model(load("preset=paper", *TINY, f"world_model.prior_layers={n}")) for n in (1, 3))
    assert [type(layer).__name__ for layer in deep.prior_head.trunk] == 2 * ["Linear", "LayerNorm", "ReLU"]
    assert not len(plain.prior_head.trunk)
    belief = torch.randn(5, 8)
    torch.testing.assert_close(deep.prior_head(belief).exp().sum(-1), torch.ones(5, deep.latent_shape[0]))


@pytest.mark.parametrize("option", ["motion_weight", "foreground_weight"])
def test_weights_of_pixels(batch, option):
    assert changed_terms(batch, f"model_loss.{option}=30") == {"loss_reconstruction"}


def test_unroll_steps(batch):
    """It adds its own terms, and leaves the others as they are."""
    before, after = terms_of(batch), terms_of(batch, "model_loss.unroll_steps=2")
    assert set(after.keys()) - set(before.keys()) == {"loss_unroll", "kl_unroll"}
    assert all(before[key] == after[key] for key in before.keys())  # noqa: SIM118
    with pytest.raises(UsageError, match=r"unroll_steps=61 are too many for replay.batch_length=64: give at most 60"):
        check_config(load("preset=paper", "model_loss.unroll_steps=61"))


def test_expected_posterior(batch):
    override = "world_model.expected_posterior=true"
    assert "loss_reconstruction" in changed_terms(batch, override)
    world_model = tiny_world_model(load("preset=paper", *TINY, override))
    pixels = batch["pixels"]
    torch.testing.assert_close(world_model.encode(pixels), world_model.encoder(pixels)[0].exp().flatten(-2))


def test_residual_prior(batch):
    override = "world_model.residual_prior=true"
    assert changed_terms(batch, override) >= {"loss_dynamics", "kl_dynamics"}
    world_model = tiny_world_model(load("preset=paper", *TINY, override))
    belief, known = torch.randn(5, 8), torch.rand(5, *world_model.latent_shape).softmax(-1)
    change = world_model.prior_head.linear(belief).unflatten(-1, world_model.latent_shape)
    for logits in (change, torch.zeros_like(change)):  # an untrained head predicts no change
        mixed = 0.99 * known + 0.01 / known.shape[-1]
        wanted = 0.99 * (logits + mixed.log()).softmax(-1) + 0.01 / known.shape[-1]
        torch.testing.assert_close(world_model.predict_logits(belief, known.flatten(-2)).exp(), wanted)
        world_model.prior_head.linear.reset_parameters()


def test_rewarded_windows():
    config = load("preset=debug", "replay.rewarded=2")
    env = factory.make_env(config)
    sequences, _ = factory.make_replay(config, env, torch.device("cpu"))
    assert sequences.sampler._rewarded == 2
    with pytest.raises(UsageError, match=r"replay.rewarded=99: give at most"):
        check_config(load("preset=debug", "replay.rewarded=99"))


def test_starts_of_a_batch_follow_a_context():
    config = load("preset=cpu", "imagination.context_length=12")
    assert config.first_start() == 11, "whose belief knows 12 steps"
    with pytest.raises(UsageError, match=r"finds 0 starts .* after imagination.context_length=24 steps"):
        check_config(load("preset=cpu", "imagination.context_length=24"))


def test_first_valid(batch):
    terms = changed_terms(batch, "model_loss.first_valid=4")
    assert terms >= {"loss_reward", "loss_termination", "kl_dynamics", "kl_variation"}
    assert "loss_reconstruction" not in terms


def test_reward_decoding(batch):
    changed = changed_terms(batch, "world_model.reward_head.decoding=raw")
    assert changed == set(), "the loss is the same, and shows the head its targets"
    config = load("preset=paper", *TINY, "world_model.reward_head.decoding=raw")
    world_model = tiny_world_model(config)
    GLAMModelLoss(world_model)(batch)
    largest = batch["next", "reward"][:, config.model_loss.first_valid :].abs().max()
    assert world_model.reward_head.reach.item() == pytest.approx(math.log1p(largest.item()))
    assert largest > 0


def test_residual_of_the_block(batch):
    paper, released = (
        tiny_world_model(load("preset=paper", *TINY, f"world_model.dynamics.post_norm={value}"))
        for value in (True, False)
    )
    names = {True: set(paper.state_dict()), False: set(released.state_dict())}
    branches = ("gmamba", "lmamba")
    assert names[False] < names[True]
    assert names[True] - names[False] == {
        f"dynamics.{branch}.layers.0.post_norm.{kind}" for branch in branches for kind in ("weight", "bias")
    }
    for name, value in released.state_dict().items():
        assert torch.equal(value, paper.state_dict()[name]), name
    outputs = []
    for world_model in (paper, released):
        torch.manual_seed(0)
        with torch.no_grad():
            outputs.append(world_model(batch.select("pixels", "action").clone()))
    for key in ("posterior_logits", "state", "reconstruction"):
        assert torch.equal(outputs[0][key], outputs[1][key]), key
    assert not torch.allclose(outputs[0]["belief"], outputs[1]["belief"])
    with torch.no_grad():
        tokens = released.embedding(outputs[1]["state"], batch["action"])
        for branch, reads in ((released.dynamics.gmamba, tokens.diff(dim=1)), (released.dynamics.lmamba, tokens)):
            layer = branch.layers[0]
            normed = nn.functional.layer_norm(reads, (8,), layer.norm.weight, layer.norm.bias, layer.norm.eps)
            torch.testing.assert_close(layer(reads)[0], reads + layer.mamba(normed)[0])


def filled_replay(config, batch):
    """The factory's two views after 100 records whose rewards count them."""
    env = SimpleNamespace(batch_size=torch.Size([]), fake_tensordict=lambda: batch[0, 0])
    sequences, contexts = factory.make_replay(config, env, torch.device("cpu"))
    records = batch.flatten()[:1].expand(100).clone()
    records["next", "reward"] = torch.arange(100.0)[:, None]
    sequences.extend(records)
    return sequences, contexts


def test_batch_length_and_imagination_context(batch):
    torch.manual_seed(0)
    sequences, contexts = filled_replay(load("preset=paper", *TINY), batch)
    assert sequences.sample().shape == (6, 64)
    assert contexts.sample().shape == (2, 16)
    sequences, contexts = filled_replay(load("preset=paper", *TINY, "replay.batch_length=68"), batch)
    assert sequences.sample().shape == (6, 68)
    assert contexts.sample().shape == (2, 16)
    config = load("preset=paper", *TINY, "imagination.context_length=8")
    sequences, contexts = filled_replay(config, batch)
    assert sequences.sample().shape == (6, 64)
    assert contexts.sample().shape == (2, 8)
    world_model = tiny_world_model(config)
    actor = factory.make_actor(config, world_model, SPEC)
    assert factory.make_policy(config, world_model, actor, SPEC).context_length == 16, "acting remembers as before"


def test_newest_windows(batch):
    torch.manual_seed(0)
    newest = torch.arange(32.0, 37.0)  # of 100 records, the windows of 64 that end last
    sequences, _ = filled_replay(load("preset=paper", *TINY, "replay.newest=5"), batch)
    for _ in range(5):
        first = sequences.sample()["next", "reward"][:, 0, 0]
        assert torch.isin(newest, first).all()
        assert (first <= 31).sum() == 1, "the rest, one of six, is older"
    sequences, _ = filled_replay(load("preset=paper", *TINY), batch)
    assert not all(torch.isin(newest, sequences.sample()["next", "reward"][:, 0, 0]).all() for _ in range(5))


def test_memory_in_imagination(batch):
    rollouts = {}
    for memory in ("carried", "sliding"):
        config = load("preset=paper", *TINY, f"imagination.memory={memory}", "imagination.window=8")
        world_model = tiny_world_model(config)
        actor = factory.make_actor(config, world_model, SPEC)
        env = factory.make_imagined_env(config, world_model, SPEC)
        assert isinstance(world_model.dynamics, GLAMDynamics), "training is the same"
        assert isinstance(env.transition.dynamics, SlidingWindow if memory == "sliding" else GLAMDynamics)
        if memory == "sliding":
            assert env.transition.dynamics.window == 8
        torch.manual_seed(0)
        with torch.no_grad():
            start = env.start(batch["pixels"][:, :5], batch["action"][:, :5])
            rollouts[memory] = env.imagine(start, actor, 6)
    beliefs = {memory: rollout["next", "belief"] for memory, rollout in rollouts.items()}
    torch.testing.assert_close(beliefs["carried"][:, :3], beliefs["sliding"][:, :3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(beliefs["carried"][:, 3:], beliefs["sliding"][:, 3:], atol=1e-3), "5 + 3 tokens, then 8"


@pytest.mark.parametrize(("starts", "frames"), [("replay", 2 * 8), ("batch", 0)])
def test_where_imagination_starts(batch, starts, frames):
    """In the batch of the world model: its frames are not encoded again, and the draws are the loss's own."""
    options = (f"imagination.starts={starts}", "imagination.batch_size=8", "replay.batch_size=2")
    config = load("preset=paper", *TINY, *options, "replay.batch_length=8", "imagination.context_length=4")
    check_config(config)
    world_model = tiny_world_model(config)
    env = factory.make_imagined_env(config, world_model, SPEC)
    update_world_model = factory.make_world_model_update(config, world_model)
    update_policy = factory.make_policy_update(config, env, factory.make_actor(config, world_model, SPEC))
    _, latents = update_world_model(batch)
    assert "state" not in batch
    encoded, imagined, imagine = [], [], env.imagine
    world_model.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0].shape[:-3].numel()))

    def spy(start, *rest):
        imagined.append(start)
        return imagine(start, *rest)

    env.imagine = spy
    update_policy(latents if starts == "batch" else batch, 3)
    assert sum(encoded) == frames
    (start,) = imagined
    if starts == "batch":
        assert start.shape == (8,)
        following = latents["state"][:, config.model_loss.first_valid + 1 :].flatten(0, 1)
        assert sorted(start["state"].tolist()) == sorted(following.tolist()), "8 places, each once"


def test_what_acting_sees():
    policies = {}
    for sees in ("prior", "posterior"):
        config = load("preset=paper", *TINY, f"agent.sees={sees}")
        world_model = tiny_world_model(config)
        actor = factory.make_actor(config, world_model, SPEC)
        policies[sees] = factory.make_policy(config, world_model, actor, SPEC).sees
    assert policies == {"prior": "prior", "posterior": "posterior"}


@pytest.mark.parametrize(
    ("option", "positions"),
    [("norm_eps=1e-6", range(8)), ("partial_windows=false", (1, 2)), ("first_token=true", (0,))],
)
def test_options_of_the_backbone_change_only_what_they_name(batch, option, positions):
    """The two on short contexts: nothing that the loss reads, which begins at 3."""
    override = f"world_model.dynamics.{option}"
    beliefs = []
    for overrides in ((), (override,)):
        world_model = tiny_world_model(load("preset=paper", *TINY, *overrides))
        torch.manual_seed(0)
        with torch.no_grad():
            beliefs.append(world_model(batch.select("pixels", "action").clone())["belief"])
    differ = (beliefs[0] != beliefs[1]).any(-1).any(0)
    assert set(differ.nonzero().flatten().tolist()) <= set(positions)
    assert differ.any()
    assert bool(changed_terms(batch, override)) == (len(positions) == 8)


def test_options_of_acting_and_of_the_return_reach_them():
    config = load("preset=paper", *TINY, "agent.keep_context=true", "agent.return_percentiles=order_statistic")
    world_model = tiny_world_model(config)
    actor = factory.make_actor(config, world_model, SPEC)
    assert factory.make_policy(config, world_model, actor, SPEC).keep_context
    update = factory.make_policy_update(config, factory.make_imagined_env(config, world_model, SPEC), actor)
    assert type(update.objective.return_norm) is OrderStatisticNorm
    with pytest.raises(UsageError, match=r"agent\.return_percentiles=median does not exist: choose interpolated or"):
        check_config(load("preset=paper", "agent.return_percentiles=median"))


def test_bootstrap_of_the_return(batch):
    outcomes = {}
    for bootstrap in ("next", "current"):
        config = load("preset=paper", *TINY, f"agent.bootstrap={bootstrap}")
        world_model = tiny_world_model(config)
        torch.manual_seed(0)
        actor = factory.make_actor(config, world_model, SPEC)
        update = factory.make_policy_update(config, factory.make_imagined_env(config, world_model, SPEC), actor)
        nn.init.normal_(update.objective.critic.module.head.logits.weight, std=0.1)
        torch.manual_seed(0)
        outcomes[bootstrap] = update(batch, 3)
    same = {key for key, value in outcomes["next"].items() if value == outcomes["current"][key]}
    assert same >= {"imagined_reward", "entropy", "loss_entropy"}
    assert not {"imagined_return", "loss_critic", "value_error"} & same


# What the released preset computes


@pytest.mark.parametrize(("preset", "length", "counts"), [("released", 68, (68, 64, 63)), ("paper", 64, (64, 61, 60))])
def test_frames_outcomes_and_kls(monkeypatch, make_batch, preset, length, counts):
    frames, outcomes, predictions = counts
    config = load(f"preset={preset}", *TINY)
    assert config.replay.batch_length == length
    shapes = {}
    for home, name in (
        (formulas, "reconstruction_loss"),
        (heads, "symlog_two_hot_loss"),
        (formulas, "termination_loss"),
        (formulas, "balanced_kl"),
        (formulas, "kl_to_target"),
    ):
        original = getattr(home, name)

        def spy(first, second, *rest, name=name, original=original, **options):
            shapes[name] = {tuple(first.shape[:2]), tuple(second.shape[:2])}
            return original(first, second, *rest, **options)

        monkeypatch.setattr(home, name, spy)
    update = factory.make_world_model_update(config, tiny_world_model(config))
    update(make_batch(1, length, (64, 64, 3)))
    assert shapes == {
        "reconstruction_loss": {(1, frames)},
        "symlog_two_hot_loss": {(1, outcomes)},
        "termination_loss": {(1, outcomes)},
        "balanced_kl": {(1, predictions)},
        "kl_to_target": {(1, predictions)},
    }


def test_details_of_the_released_variation():
    """1 % of uniform on target and prediction; the fixed map as PyTorch initialises it, untrained, has a bias."""
    config = load("preset=released", *TINY)
    world_model = tiny_world_model(config)
    torch.manual_seed(0)
    loss = GLAMModelLoss(world_model, variation_target=config.model_loss.variation_target)
    part = loss.terms[-1]
    assert (part.head.unimix, tuple(part.head.linear.weight.shape)) == (0.01, (12, 8))
    assert tuple(part.feature_map.weight.shape) == (12, 32)
    assert part.feature_map.bias is not None
    assert not any(parameter.requires_grad for parameter in part.feature_map.parameters())
    bound = 32**-0.5
    for parameter in part.feature_map.parameters():
        assert 0.7 * bound < parameter.abs().max() <= bound
    features = torch.randn(2, 5, 32)
    difference = torch.stack([features[:, t + 1] - features[:, t] for t in range(4)], 1)
    p = (difference @ part.feature_map.weight.T + part.feature_map.bias).reshape(2, 4, 3, 4).softmax(-1)
    target, head = part.compare(world_model, {"features": features})
    torch.testing.assert_close(target.exp(), 0.99 * p + 0.01 / 4)
    assert head is part.head
    assert "_terms.4.feature_map.weight" in loss.state_dict(), "a resumed run keeps the map"


def test_the_fixed_map_is_not_trained(batch):
    config = load("preset=released", *TINY)
    update = factory.make_world_model_update(config, tiny_world_model(config))
    part = update.loss.terms[-1]
    before = part.feature_map.weight.clone(), part.head.linear.weight.clone()
    update(batch)
    assert torch.equal(part.feature_map.weight, before[0])
    assert not torch.equal(part.head.linear.weight, before[1]), "its own head is"
    group = update.optimizer.param_groups[0]
    assert (group["lr"], group["eps"]) == (1e-4, 1e-8)


# One home for a default


def defaults_of(function: object) -> dict[str, object]:
    """Default values in the signature."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def public(node: object) -> tuple[str, ...]:
    """The names of a node's options."""
    return tuple(option.name for option in fields(node) if not option.name.startswith("_"))


def plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return tuple(value) if isinstance(value, list) else value


def backbone_options() -> object:
    """The options of GLAM's backbone in a run without any."""
    return GLAMConfig().world_model.dynamics


MAMBA = ("post_norm", "norm_eps", "d_state", "d_conv", "expand", "backend")
SHORT = ("partial_windows", "first_token")
AGENT_SIZES = ("hidden", "num_layers")
HOMES = [
    (GLAMDynamics, backbone_options, ("width", "global_layers", "local_layers", "window", *SHORT, *MAMBA)),
    (ResidualMamba, backbone_options, MAMBA),
    (MambaBlock, backbone_options, MAMBA[2:]),
    (LMamba, backbone_options, ("window", "partial_windows")),
    (GMamba, backbone_options, ("first_token",)),
    (
        GLAMWorldModel,
        options.WorldModelConfig,
        ("channels", "num_categoricals", "num_classes", "head_width", "unimix"),
    ),
    (ImageEncoder, options.WorldModelConfig, ("channels", "num_categoricals", "num_classes", "unimix")),
    (CategoricalHead, options.WorldModelConfig, ("unimix",)),
    (unimix_logits, options.WorldModelConfig, ("unimix",)),
    (GLAMModelLoss, options.ModelLossConfig, public(options.ModelLossConfig)),
    (GLAMCriticLoss, options.AgentConfig, ("gamma", "lmbda", "bootstrap")),
    (GLAMPolicy, options.AgentConfig, ("sees", "context_length", "keep_context")),
    (make_actor, options.AgentConfig, AGENT_SIZES),
    (make_critic, options.AgentConfig, AGENT_SIZES),
    (SlidingWindow, options.ImaginationConfig, ("window",)),
    (make_replay, options.ReplayConfig, ("newest",)),
]


@pytest.mark.parametrize(("function", "home", "names"), HOMES, ids=[function.__name__ for function, _, _ in HOMES])
def test_defaults_of_config_and_constructor_agree(function, home, names):
    defaults, config = defaults_of(function), home()
    for name in names:
        assert defaults[name] == plain(getattr(config, name)), name


def test_defaults_that_are_spelt_otherwise_agree_too():
    replay, imagination = options.ReplayConfig(), options.ImaginationConfig()
    defaults = defaults_of(make_replay)
    assert defaults["sequences"] == (replay.batch_size, replay.batch_length)
    assert defaults["contexts"] == (imagination.batch_size, imagination.context_length)
    depths = backbone_options().global_layers, backbone_options().local_layers
    assert (defaults_of(GMamba)["num_layers"], defaults_of(LMamba)["num_layers"]) == depths


def test_every_option_of_the_world_models_loss_reaches_it():
    """No option may be declared and then forgotten: each is changed and found again in the loss."""
    changed = {
        "first_valid": 5,
        "dynamics_coeff": 0.7,
        "representation_coeff": 0.8,
        "variation_coeff": 0.9,
        "free_nats": 2.0,
        "variation_target": "latent",
        "variation_free_nats": 3.0,
        "motion_weight": 30.0,
        "foreground_weight": 20.0,
        "motion_threshold": 0.1,
        "event_coeff": 0.2,
        "unroll_steps": 4,
    }
    assert set(changed) == set(public(options.ModelLossConfig))
    config = load("preset=paper", *TINY, *(f"model_loss.{name}={value}" for name, value in changed.items()))
    loss = factory.make_world_model_update(config, tiny_world_model(config)).loss
    reconstruction, *_, latent, variation, event, unroll = loss.terms
    found = {
        "first_valid": loss.first_valid,
        "dynamics_coeff": latent.weights["dynamics"],
        "representation_coeff": latent.weights["representation"],
        "variation_coeff": variation.weights["variation"],
        "free_nats": latent.free_nats,
        "variation_target": variation.target,
        "variation_free_nats": variation.free_nats,
        "motion_weight": reconstruction.motion,
        "foreground_weight": reconstruction.foreground,
        "motion_threshold": reconstruction.threshold,
        "unroll_steps": unroll.steps,
        "event_coeff": event.weights["event"],
    }
    assert found == changed


def test_every_option_of_the_backbone_reaches_it():
    changed = {
        "width": 12,
        "global_layers": 2,
        "local_layers": 3,
        "window": 5,
        "partial_windows": False,
        "first_token": True,
        "post_norm": False,
        "norm_eps": 1e-3,
        "d_state": 7,
        "d_conv": 3,
        "expand": 3,
        "backend": "reference",
    }
    assert set(changed) == set(public(backbone_options()))
    config = load("preset=paper", *TINY, *(f"world_model.dynamics.{name}={value}" for name, value in changed.items()))
    dynamics = tiny_world_model(config).dynamics
    assert dynamics.width == 12
    assert (len(dynamics.gmamba.layers), len(dynamics.lmamba.layers), dynamics.lmamba.window) == (2, 3, 5)
    assert (dynamics.lmamba.partial_windows, dynamics.gmamba.first_token) == (False, True)
    for layer in (*dynamics.gmamba.layers, *dynamics.lmamba.layers):
        assert isinstance(layer.post_norm, nn.Identity)
        assert layer.norm.eps == 1e-3
        assert tuple(layer.mamba.A_log.shape) == (36, 7)
        assert (layer.mamba.d_conv, layer.mamba.backend) == (3, "reference")
