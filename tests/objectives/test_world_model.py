"""The world model's loss: each term by hand, which outputs are matched with what, and where gradients go."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMDynamics, heads
from torchrl_glam.modules.heads import TwoHotHead
from torchrl_glam.objectives import GLAMModelLoss, total_loss
from torchrl_glam.objectives import functional as formulas

TIME = 6

# One element, one categorical of two classes, frames of 1x2 grey pixels. Every number differs from t to t, so that a
# term matched with the wrong t comes out wrong.
PIXELS = [[0, 255], [51, 0], [102, 0], [153, 0], [204, 0], [255, 51]]
RECONSTRUCTION = [[0.5, 1.0], [0.2, 0.1], [0.4, 0.0], [0.6, 0.3], [0.8, 0.0], [0.0, 0.2]]
RECONSTRUCTION_LOSS = (0.25 + 0.01 + 0.0 + 0.09 + 0.0 + 1.0) / 6
REWARD_P = [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.25, 0.35, 0.4]]
REWARDS = [5.0, -5.0, 9.0, 0.0, math.expm1(0.25), -math.expm1(0.5)]  # the last three in symlog space: 0, 1/4, -1/2
REWARD_CE = [
    None,
    None,
    None,
    -math.log(0.3),
    -(0.75 * math.log(0.3) + 0.25 * math.log(0.1)),
    -(0.5 * math.log(0.25) + 0.5 * math.log(0.35)),
]
END_LOGITS = [9.0, 9.0, 9.0, 1.0, -2.0, 0.5]
ENDS = [False, True, False, False, True, False]
END_CE = [None, None, None, math.log1p(math.e), math.log1p(math.exp(2)), math.log1p(math.exp(0.5))]
POSTERIOR = [0.5, 0.9, 0.3, 0.6, 0.2, 0.75]  # probability of the first class
PRIOR = [0.5, 0.5, 0.5, 0.95, 0.1, 0.4]
VARIATION = [0.5, 0.5, 0.5, 0.8, 0.35, 0.5]
CLASSES = [0, 1, 1, 0, 0, 1]
FEATURES = [0.0, 3.0, 1.0, 2.0, 2.5, 2.0]


def kl(q, p):
    return q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))


def entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


KL = {t: kl(POSTERIOR[t + 1], PRIOR[t]) for t in (3, 4)}  # 1.91 and 1.19


def pairs(values):
    return torch.tensor([[p, 1 - p] for p in values]).reshape(1, TIME, 1, 2)


class FakeWorldModel(nn.Module):
    """Has what the loss needs of a world model, and returns numbers from above."""

    def __init__(self, with_variation=True):
        super().__init__()
        self.latent_shape, self.observation_keys, self.marks_starts = (1, 2), ("pixels",), False
        self.reward_head = TwoHotHead(2, 2, num_bins=3, limit=1.0)
        self.dynamics = SimpleNamespace(width=2, has_variation=with_variation)
        self.encoder = SimpleNamespace(num_features=1)
        self.prior_head = FakeHead()
        self.with_variation = with_variation
        self.seen = None

    def forward(self, tensordict):
        self.seen = tensordict.clone()
        outputs = {
            "frames": torch.tensor(PIXELS).reshape(1, TIME, 1, 1, 2) / 255,
            "reconstruction": torch.tensor(RECONSTRUCTION).reshape(1, TIME, 1, 1, 2),
            "reward_logits": torch.tensor(REWARD_P).log().reshape(1, TIME, 3),
            "termination_logits": torch.tensor(END_LOGITS).reshape(1, TIME, 1),
            "posterior_logits": pairs(POSTERIOR).log(),
            "belief": torch.zeros(1, TIME, 8),
            "prior_logits": pairs(PRIOR).log(),
            "state": torch.eye(2)[CLASSES].reshape(1, TIME, 2),
            "features": torch.tensor(FEATURES).reshape(1, TIME, 1),
        }
        if self.with_variation:
            outputs["variation"] = pairs(VARIATION).log().squeeze(2)
        return tensordict.update(outputs)


class FakeHead(nn.Module):
    """Takes the variation for the logits themselves."""

    latent_shape, unimix = (1, 2), 0.0

    def forward(self, belief):
        return belief.unflatten(-1, (1, 2)).log_softmax(-1)


def fake_batch(**after):
    after = after or {"reward": torch.tensor(REWARDS), "life_loss": torch.tensor(ENDS)}
    return TensorDict(
        {
            "pixels": torch.tensor(PIXELS, dtype=torch.uint8).reshape(1, TIME, 1, 2, 1),
            "action": torch.arange(TIME).reshape(1, TIME, 1),
            "next": {key: value.reshape(1, TIME, 1) for key, value in after.items()},
        },
        [1, TIME],
    )


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# Values


@pytest.mark.parametrize("first_valid", [3, 4])
def test_terms_by_hand(first_valid):
    loss = GLAMModelLoss(FakeWorldModel(), first_valid=first_valid, free_nats=0.0, variation_free_nats=0.0)
    terms = loss(fake_batch())
    outcomes, predictions = range(first_valid, 6), range(first_valid, 5)
    kl_dynamics = mean(KL[t] for t in predictions)
    changes = {3: (0.2 / 0.6, 0.8 / 0.4), 4: (0.75 / 0.2, 0.25 / 0.8)}  # p_{t+1} / p_t of both classes
    kl_variation = mean(kl(changes[t][0] / sum(changes[t]), VARIATION[t]) for t in predictions)
    wanted = {
        "loss_reconstruction": RECONSTRUCTION_LOSS,
        "loss_reward": mean(REWARD_CE[t] for t in outcomes),
        "loss_termination": mean(END_CE[t] for t in outcomes),
        "loss_dynamics": 0.5 * kl_dynamics,
        "loss_representation": 0.1 * kl_dynamics,
        "loss_variation": 0.1 * kl_variation,
        "kl_dynamics": kl_dynamics,
        "kl_variation": kl_variation,
        "posterior_entropy": mean(entropy(POSTERIOR[t + 1]) for t in predictions),
        "prior_entropy": mean(entropy(PRIOR[t]) for t in predictions),
    }
    assert set(terms.keys()) == set(wanted)
    for key, value in wanted.items():
        assert terms[key].item() == pytest.approx(value, rel=1e-5), key
        assert terms[key].shape == (), key
    assert total_loss(terms).item() == pytest.approx(sum(wanted[key] for key in wanted if key.startswith("loss_")))


@pytest.mark.parametrize(
    ("target", "by_hand"),
    [
        # z_4 - z_3 = 0; z_5 - z_4 = (-1, 1): softmax 1 / (1 + e^2) for the first class.
        ("latent", {3: 0.5, 4: 1 / (1 + math.exp(2))}),
        # Features change by 0.5, -0.5: logits (2, -1) * change + (0, 1), then 10 % of uniform.
        ("features", {3: 0.9 / (1 + math.exp(-0.5)) + 0.05, 4: 0.9 / (1 + math.exp(2.5)) + 0.05}),
    ],
)
def test_other_targets_of_the_variation_by_hand(target, by_hand):
    FakeHead.unimix = 0.1 if target == "features" else 0.0
    try:
        loss = GLAMModelLoss(FakeWorldModel(), variation_target=target, variation_free_nats=0.0)
    finally:
        FakeHead.unimix = 0.0
    predicted = dict(enumerate(VARIATION))
    if target == "features":
        with torch.no_grad():
            variation = loss.terms[-1]
            variation.feature_map.weight.copy_(torch.tensor([[2.0], [-1.0]]))
            variation.feature_map.bias.copy_(torch.tensor([0.0, 1.0]))
            variation.head.linear.weight.copy_(torch.eye(2))
            variation.head.linear.bias.zero_()
        predicted = {t: 0.9 * p + 0.05 for t, p in predicted.items()}
    terms = loss(fake_batch())
    wanted = mean(kl(by_hand[t], predicted[t]) for t in (3, 4))
    assert terms["kl_variation"].item() == pytest.approx(wanted, rel=1e-5)
    assert terms["loss_variation"].item() == pytest.approx(0.1 * wanted, rel=1e-5)


def test_the_mean_is_clamped_at_the_free_nats_not_each_entry():
    """KL is 1.91 at t = 3 and 1.19 at t = 4: on average 1.55, above a bound of 1.3 that one of them stays below."""
    both = (KL[3] + KL[4]) / 2
    assert KL[4] < 1.3 < both < 1.6
    for free_nats, wanted in ((1.3, both), (1.6, 1.6)):
        terms = GLAMModelLoss(FakeWorldModel(), free_nats=free_nats)(fake_batch())
        assert terms["loss_dynamics"].item() == pytest.approx(0.5 * wanted, rel=1e-5)
        assert terms["loss_representation"].item() == pytest.approx(0.1 * wanted, rel=1e-5)
        assert terms["kl_dynamics"].item() == pytest.approx(both, rel=1e-5)


def test_the_variation_has_a_bound_of_its_own():
    for bound in (0.9, 1.0, 3.0):
        terms = GLAMModelLoss(FakeWorldModel(), variation_free_nats=bound, free_nats=7.0)(fake_batch())
        assert terms["kl_variation"].item() < 0.9
        assert terms["loss_variation"].item() == pytest.approx(0.1 * bound)


@pytest.mark.parametrize(
    ("coefficient", "gone"),
    [
        ("dynamics_coeff", {"loss_dynamics"}),
        ("representation_coeff", {"loss_representation"}),
        ("variation_coeff", {"loss_variation", "kl_variation"}),
    ],
)
def test_weights(coefficient, gone):
    every = GLAMModelLoss(FakeWorldModel(), variation_free_nats=0.0)(fake_batch())
    fewer = GLAMModelLoss(FakeWorldModel(), variation_free_nats=0.0, **{coefficient: 0.0})(fake_batch())
    assert set(every.keys()) - set(fewer.keys()) == gone
    more = GLAMModelLoss(FakeWorldModel(), variation_free_nats=0.0, **{coefficient: 2.0})(fake_batch())
    name = coefficient.replace("_coeff", "")
    for key in every.keys():  # noqa: SIM118 (a tensordict iterates over its batch)
        factor = 2.0 / {"dynamics": 0.5}.get(name, 0.1) if key == f"loss_{name}" else 1.0
        assert more[key].item() == pytest.approx(factor * every[key].item(), rel=1e-5), key
        if key in fewer:
            assert fewer[key].item() == every[key].item(), key


# Keys and refusals


def test_keys_can_be_set():
    loss = GLAMModelLoss(FakeWorldModel())
    wanted = loss(fake_batch())
    batch = fake_batch()
    moved = TensorDict(
        {
            "observation": {"image": batch["pixels"]},
            "agent": {"action": batch["action"]},
            "next": {"agent": {"gain": batch["next", "reward"]}, "terminated": batch["next", "life_loss"]},
        },
        [1, TIME],
    )
    loss.set_keys(
        pixels=("observation", "image"), action=("agent", "action"), reward=("agent", "gain"), termination="terminated"
    )
    came = loss(moved)
    assert (came == wanted).all()
    assert torch.equal(loss.world_model.seen["action"], batch["action"])
    assert set(moved.keys()) == {"observation", "agent", "next"}, "the batch is not written to"


def test_life_loss_is_the_default_and_terminated_an_option():
    flags = {"life_loss": torch.tensor(ENDS), "terminated": torch.zeros(TIME, dtype=torch.bool)}
    batch = fake_batch(reward=torch.tensor(REWARDS), **flags)
    loss = GLAMModelLoss(FakeWorldModel())
    assert loss(batch)["loss_termination"].item() == pytest.approx(mean(END_CE[3:]))
    loss.set_keys(termination="terminated")
    wanted = mean(math.log1p(math.exp(logit)) for logit in END_LOGITS[3:])
    assert loss(batch)["loss_termination"].item() == pytest.approx(wanted)


@pytest.mark.parametrize("options", [{}, {"variation_coeff": 0.0}], ids=["all", "no variation"])
def test_the_loss_takes_keyword_arguments_like_any_of_torchrl(make_world_model, make_batch, options):
    batch, loss = make_batch(), GLAMModelLoss(make_world_model(), **options)
    torch.manual_seed(0)
    came = loss(
        pixels=batch["pixels"],
        action=batch["action"],
        next_reward=batch["next", "reward"],
        next_life_loss=batch["next", "life_loss"],
    )
    torch.manual_seed(0)
    wanted = loss(batch)
    assert [value.item() for value in came] == [wanted[key].item() for key in loss.out_keys]


@pytest.mark.parametrize(("first_valid", "time"), [(3, 4), (4, 5), (3, 1)])
def test_a_sequence_too_short_is_refused(make_world_model, make_batch, first_valid, time):
    loss = GLAMModelLoss(make_world_model(), first_valid=first_valid)
    with pytest.raises(UsageError, match=rf"shape \(2, {time}\): .* t of at least {first_valid + 2}; sample longer"):
        loss(make_batch(2, time))
    terms = loss(make_batch(2, first_valid + 2))
    assert torch.isfinite(total_loss(terms))


def test_a_batch_without_time_is_refused(make_world_model, make_batch):
    with pytest.raises(UsageError, match=r"shape \(8,\): GLAMModelLoss wants \[b t\]"):
        GLAMModelLoss(make_world_model())(make_batch(2, 8)[0])


def test_an_unknown_target_is_refused(make_world_model):
    with pytest.raises(UsageError, match="variation_target is 'pixels': choose one of logits, latent, features"):
        GLAMModelLoss(make_world_model(), variation_target="pixels")


@pytest.mark.parametrize("world_model", [None, nn.Linear(1, 1)], ids=["None", "Linear"])
def test_what_is_no_world_model_is_refused(world_model):
    name = type(world_model).__name__
    with pytest.raises(UsageError, match=f"the world model is a {name}: give a GLAMWorldModel"):
        GLAMModelLoss(world_model)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("pixels", lambda pixels: pixels.float() / 255, r"torch\.float32 of shape .* wants uint8 \[\.\. 8 8 3\]"),
        ("pixels", lambda pixels: pixels.movedim(-1, -3), r"shape \(2, 8, 3, 8, 8\): .* uint8 \[\.\. 8 8 3\]"),
        ("action", lambda action: action[..., :2], r"actions have shape \(2, 8, 2\): .* wants \[\.\. 3\]"),
    ],
    ids=["floats", "channels first", "narrow actions"],
)
def test_other_frames_and_actions_are_refused(make_world_model, make_batch, key, change, message):
    batch = make_batch()
    batch[key] = change(batch[key])
    with pytest.raises(UsageError, match=message):
        GLAMModelLoss(make_world_model())(batch)


def test_a_backbone_without_variation_is_refused_unless_the_term_is_off():
    world_model = FakeWorldModel(with_variation=False)
    with pytest.raises(
        UsageError,
        match=r"has no variation branch .*: leave variation_coeff out, or set it to 0",
    ):
        GLAMModelLoss(world_model, variation_coeff=0.1)
    for options in ({}, {"variation_coeff": 0.0}):
        terms = GLAMModelLoss(world_model, **options)(fake_batch())
        assert terms["loss_reconstruction"].item() == pytest.approx(RECONSTRUCTION_LOSS)
        assert "loss_variation" not in terms


# Gradient routing

PARTS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "embedding": "embedding",
    "dynamics.gmamba": "gmamba",
    "dynamics.lmamba": "lmamba",
    "prior_head": "prior_head",
    "reward_head": "reward_head",
    "termination_head": "termination_head",
}
LATENT = {"encoder", "embedding", "gmamba"}  # the encoder by way of the straight-through sample
ROUTES = {
    "loss_reconstruction": {"encoder", "decoder"},
    "loss_reward": LATENT | {"lmamba", "reward_head"},
    "loss_termination": LATENT | {"lmamba", "termination_head"},
    "loss_dynamics": LATENT | {"lmamba", "prior_head"},
    "loss_representation": {"encoder"},
    "loss_variation": LATENT | {"prior_head"},
}


def routing_loss(world_model, **options):
    return GLAMModelLoss(world_model, free_nats=0.0, variation_free_nats=0.0, **options)


def moved_parts(loss, term, batch):
    """Parts of the world model that get a gradient from one term, and the loss's own parameters that do."""
    loss.zero_grad()
    torch.manual_seed(0)
    loss(batch)[term].backward()
    moved = set()
    for name, parameter in loss.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            continue
        if name.startswith("world_model."):
            moved.add(next(part for prefix, part in PARTS.items() if name.startswith(f"world_model.{prefix}")))
        else:
            moved.add(name)
    return moved


@pytest.mark.parametrize("term", ROUTES)
def test_which_parts_a_term_moves(make_world_model, make_batch, term):
    assert moved_parts(routing_loss(make_world_model()), term, make_batch()) == ROUTES[term]


def test_every_parameter_of_a_part_is_moved(make_world_model, make_batch):
    """So that the sets above say of a part what holds of all of it."""
    loss, batch = (
        routing_loss(make_world_model(GLAMDynamics(8, global_layers=2, local_layers=2, d_state=3))),
        make_batch(),
    )
    torch.manual_seed(0)
    total_loss(loss(batch)).backward()
    still = [name for name, parameter in loss.named_parameters() if not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("latent", LATENT | {"prior_head"}),
        ("features", LATENT | {"_terms.4.head.linear.weight", "_terms.4.head.linear.bias"}),
    ],
)
def test_which_parts_the_other_variations_move(make_world_model, make_batch, target, wanted):
    loss = routing_loss(make_world_model(), variation_target=target)
    assert moved_parts(loss, "loss_variation", make_batch()) == wanted
    if target == "features":
        assert not any(parameter.requires_grad for parameter in loss.terms[-1].feature_map.parameters())


@pytest.mark.parametrize(
    ("term", "target", "flows"),
    [
        ("loss_dynamics", "logits", False),
        ("loss_representation", "logits", True),
        ("loss_variation", "logits", False),
        ("loss_variation", "latent", False),
        ("loss_variation", "features", False),
    ],
)
def test_what_flows_through_the_target(make_world_model, make_batch, term, target, flows):
    """The last frame is target only, for no belief that counts reads it: its gradient is the target's."""
    world_model = make_world_model()
    captured = []

    def keep(module, inputs, outputs):
        captured.extend(outputs)
        for output in outputs:
            output.retain_grad()

    encode = world_model.encoder.encode
    world_model.encoder.encode = lambda frames: keep(None, frames, encoded := encode(frames)) or encoded
    routing_loss(world_model, variation_target=target)(make_batch())[term].backward()
    logits, features = captured
    assert logits.grad[:, -1].any().item() == flows
    assert features.grad is None or not features.grad[:, -1].any()
    if term != "loss_representation":
        assert logits.grad[:, 3].any(), "the straight-through sample feeds the prediction"
    else:
        assert logits.grad[:, 4:].flatten(2).any(-1).all()
        assert not logits.grad[:, :4].any()


def test_frames_before_the_first_valid_time_count_only_as_a_past(make_world_model, make_batch):
    """Rewards and ends before it are not looked at."""
    loss, batch = GLAMModelLoss(make_world_model()), make_batch()
    torch.manual_seed(0)
    wanted = loss(batch)
    batch["next", "reward"][:, :3] += 100
    batch["next", "life_loss"][:, :3] ^= True
    torch.manual_seed(0)
    assert (loss(batch) == wanted).all()
    batch["next", "reward"][:, 3] += 1
    torch.manual_seed(0)
    assert loss(batch)["loss_reward"] != wanted["loss_reward"]


def test_below_the_free_nats_no_gradient_flows(make_world_model, make_batch):
    loss = GLAMModelLoss(make_world_model(), free_nats=1e3, variation_free_nats=1e3)
    terms = loss(make_batch())
    assert terms["loss_dynamics"].item() == pytest.approx(500)
    for term in ("loss_dynamics", "loss_representation", "loss_variation"):
        assert moved_parts(loss, term, make_batch()) == set()


# Sampling and bookkeeping


def test_latents_are_sampled_although_torchrl_runs_losses_deterministically(make_world_model, make_batch):
    world_model, batch = make_world_model(), make_batch()
    loss, states = GLAMModelLoss(world_model), []
    world_model.decoder.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0].detach()))
    torch.manual_seed(0)
    for exploration in (ExplorationType.RANDOM, ExplorationType.DETERMINISTIC):
        with set_exploration_type(exploration):
            first, second = loss(batch), loss(batch)
        assert first["loss_reconstruction"] != second["loss_reconstruction"]
    torch.manual_seed(0)
    assert loss(batch)["loss_reconstruction"].item() != first["loss_reconstruction"].item()
    with torch.no_grad():
        likeliest = world_model.encoder(batch["pixels"])[0].argmax(-1)
    drawn = torch.stack(states).unflatten(-1, (3, 4)).argmax(-1)
    share = (drawn == likeliest).float().mean().item()
    with torch.no_grad():
        expected = world_model.encoder(batch["pixels"])[0].exp().amax(-1).mean().item()
    assert abs(share - expected) < 0.1
    assert expected < 0.8


def test_metrics_carry_no_graph_and_terms_do(make_world_model, make_batch):
    terms = GLAMModelLoss(make_world_model())(make_batch())
    for key, value in terms.items():
        assert value.requires_grad == key.startswith("loss_"), key


def test_total_loss_sums_the_terms_alone():
    terms = TensorDict({"loss_a": torch.tensor(1.5), "kl": torch.tensor(7.0), "loss_b": torch.tensor(2.0)})
    assert total_loss(terms).item() == 3.5


def test_variation_and_state_are_read_at_the_same_times(monkeypatch):
    """The released numbers: with 68 frames and first_valid 4, 68 reconstructed, 64 outcomes, 63 KLs."""
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
            shapes[name] = (first.shape[1], second.shape[1])
            return original(first, second, *rest, **options)

        monkeypatch.setattr(home, name, spy)
    loss = GLAMModelLoss(FakeWorldModel(), first_valid=4)
    loss(fake_batch())
    assert shapes["reconstruction_loss"] == (TIME, TIME)
    assert shapes["symlog_two_hot_loss"] == shapes["termination_loss"] == (TIME - 4, TIME - 4)
    assert shapes["balanced_kl"] == shapes["kl_to_target"] == (TIME - 5, TIME - 5)


def test_a_batch_that_lacks_a_key_or_has_another_shape_is_refused_by_name(make_world_model, make_batch):
    loss = GLAMModelLoss(make_world_model())
    batch = make_batch()
    with pytest.raises(UsageError, match=r"no \('next', 'life_loss'\): .* loss\.set_keys\(termination=\.\.\.\)"):
        loss(batch.exclude(("next", "life_loss")))
    with pytest.raises(UsageError, match=r"\('next', 'reward'\) has shape .* wants \[b t 1\]"):
        loss(batch.clone().set(("next", "reward"), batch["next", "reward"].squeeze(-1)))


def test_the_latents_returned_are_the_sample_that_made_the_loss(make_world_model, make_batch):
    world_model, batch, seen = make_world_model(), make_batch(), []
    world_model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    before, loss = batch.clone(), GLAMModelLoss(world_model)
    torch.manual_seed(0)
    terms, latents = loss.forward_with_latents(batch)
    (state,) = seen
    assert state.requires_grad
    assert latents.batch_size == batch.batch_size
    assert set(latents.keys()) == {"state", "belief", "action", "reward", "terminated"}
    assert torch.equal(latents["state"], state)
    assert not latents["state"].requires_grad
    assert torch.equal(latents["action"], batch["action"])
    assert set(batch.keys(True, True)) == set(before.keys(True, True)), "the batch is not written to"
    assert (batch == before).all()
    torch.manual_seed(0)
    assert (loss(batch) == terms).all(), "forward returns the same terms"
