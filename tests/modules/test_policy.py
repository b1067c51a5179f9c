"""Acting in the real environment: what the policy remembers, what its actor sees."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Bounded, OneHot
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.envs import make_atari_env
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMDynamics, GLAMPolicy, GLAMWorldModel, make_actor

LENGTH = 4  # of the context


class Recorder(TensorDictModule):
    """An actor that always takes one action and keeps what it saw."""

    def __init__(self, action=2):
        super().__init__(nn.Identity(), in_keys=["state", "belief"], out_keys=["action"])
        self.action, self.seen = action, []

    def forward(self, tensordict):
        self.seen.append(tensordict.select("state", "belief").clone())
        action = torch.zeros(*tensordict.shape, 3, dtype=torch.long)
        action[..., self.action] = 1
        return tensordict.set("action", action)


def recorded(world_model):
    """Have ``encode`` keep its results."""
    latents, encode = [], world_model.encode

    def keep(pixels):
        latents.append(encode(pixels))
        return latents[-1]

    world_model.encode = keep
    return latents


def belief_of(world_model, states, actions):
    """The belief after a real past ``[t ..]``, from one forward pass over all of it."""
    with torch.no_grad():
        tokens = world_model.embedding(torch.stack(states), torch.stack(actions).float())
        return world_model.dynamics(tokens[None])[0][0, -1]


def one_hot(classes):
    """Latents ``[.. k*c]`` from the numbers of their classes ``[.. k]``, as a context holds them."""
    return nn.functional.one_hot(classes.long(), 4).flatten(-2).float()


def make_inputs(world_model, lengths, image_shape=(8, 8, 3)):
    """Elements whose contexts hold ``lengths`` entries, at the front."""
    lengths = torch.as_tensor(lengths)
    shape = lengths.shape
    generator = torch.Generator().manual_seed(3)
    latents = torch.randint(4, (*shape, LENGTH, 3), generator=generator)
    actions = torch.randint(3, (*shape, LENGTH), generator=generator)
    filled = (torch.arange(LENGTH) < lengths[..., None])[..., None]
    context = {
        "state": (latents * filled).to(torch.uint8),
        "action": nn.functional.one_hot(actions, 3) * filled.float(),
        "length": lengths[..., None],
    }
    pixels = torch.randint(256, (*shape, *image_shape), generator=generator, dtype=torch.uint8)
    return TensorDict({"pixels": pixels, "context": context}, shape)


def make_policy(world_model, actor, **options):
    return GLAMPolicy(world_model, actor, OneHot(3), context_length=LENGTH, **options)


# Through a collector


@pytest.fixture
def played(make_world_model):
    """130 real steps of a game whose episodes take 60: records, latents, what the actor saw, frames per encoding."""
    world_model = make_world_model(image_shape=(64, 64, 3), channels=(2, 2, 2, 2))
    actor, frames = Recorder(), []
    world_model.encoder.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0].shape[:-3].numel()))
    env = make_atari_env("tests.support.games:CatchBall-v0", seed=0)
    policy = make_policy(world_model, actor)
    collector = Collector(env, policy, frames_per_batch=1, total_frames=130, auto_register_policy_transforms=True)
    before = len(frames)
    latents = recorded(world_model)
    actor.seen.clear()
    records = [record[0].clone() for record in collector]
    collector.shutdown()
    return world_model, records, latents, actor.seen, frames[before:]


def test_through_a_collector(played):
    world_model, records, latents, seen, frames = played
    assert frames == [1] * 130, "each frame is encoded exactly once"
    assert [t for t, record in enumerate(records) if record["is_init"]] == [0, 60, 120]
    past = []
    for t, record in enumerate(records):
        if t in (0, 60, 120):
            past = []
        kept = past[-LENGTH:]
        context = record["context"]
        assert context["length"].item() == len(kept), t
        assert context["state"].shape == (LENGTH, 3)
        assert context["action"].shape == (LENGTH, 3)
        for slot, (state, action) in enumerate(kept):
            assert torch.equal(one_hot(context["state"][slot]), state), t
            assert torch.equal(context["action"][slot], action.float()), t
        assert not context["state"][len(kept) :].any(), t
        assert not context["action"][len(kept) :].any(), t
        if kept:
            assert record["action"].tolist() == [0, 0, 1], t
            torch.testing.assert_close(seen[t]["belief"].squeeze(0), belief_of(world_model, *zip(*kept, strict=True)))
        assert record["action"].sum() == 1
        past.append((latents[t].squeeze(0), record["action"]))
    assert len({tuple(state.tolist()) for state in latents}) > 5, "constant latents would prove little"


@pytest.mark.parametrize("batched_spec", [True, False])
def test_through_a_collector_of_several_games(shake, batched_spec):
    """Episodes of different lengths: each game has a context of its own, which its own end clears."""
    env = make_atari_env("tests.support.games:CountingGame-v0", seed=0, num_envs=2)
    sizes = {"image_shape": (64, 64, 3), "channels": (2, 2, 2, 2), "num_categoricals": 3, "num_classes": 4}
    world_model = shake(GLAMWorldModel(4, GLAMDynamics(8, d_state=3), **sizes)).eval()
    spec = env.action_spec if batched_spec else env.action_spec_unbatched
    policy = GLAMPolicy(world_model, make_actor(12, 8, spec, hidden=8), spec, context_length=LENGTH)
    torch.manual_seed(0)
    collector = Collector(env, policy, frames_per_batch=2, total_frames=60, auto_register_policy_transforms=True)
    records = torch.cat([records.clone() for records in collector], 1)
    collector.shutdown()
    assert records.shape == (2, 30)
    starts = [[t for t in range(30) if record["is_init"][t]] for record in records]
    assert starts[0][0] == starts[1][0] == 0
    assert starts[0] != starts[1]
    for record in records:
        past = []
        for t in range(30):
            past = [] if record["is_init"][t] else past[-LENGTH:]
            context = record["context"][t]
            assert context["length"].item() == len(past)
            assert torch.equal(context["action"][: len(past)], torch.stack([torch.zeros(4), *past])[1:])
            assert not context["action"][len(past) :].any()
            assert record["action"][t].sum() == 1
            past.append(record["action"][t].float())


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_context_that_outlives_episodes(make_world_model, num_envs):
    """Across the ends of episodes of 60 steps, and from an empty one at the first reset."""
    world_model = make_world_model(image_shape=(64, 64, 3), channels=(2, 2, 2, 2))
    env = make_atari_env("tests.support.games:CatchBall-v0", seed=0, num_envs=num_envs)
    policy = make_policy(world_model, Recorder(), keep_context=True)
    options = {"frames_per_batch": num_envs, "total_frames": 64 * num_envs, "auto_register_policy_transforms": True}
    collector = Collector(env, policy, **options)
    latents, records = recorded(world_model), []
    for record in collector:
        records.append(record.reshape(num_envs).clone())
    collector.shutdown()
    assert [t for t, record in enumerate(records) if record["is_init"].all()] == [0, 60]
    lengths = [record["context", "length"].flatten().unique().tolist() for record in records]
    assert lengths == [[0], [1], [2], [3], *[[LENGTH]] * 60]
    for t in (59, 60, 61, 63):
        for slot in range(LENGTH):
            kept = one_hot(records[t]["context", "state"][:, slot])
            assert torch.equal(kept, latents[t - LENGTH + slot].reshape(kept.shape)), (t, slot)


def test_continuous_actions_through_a_collector(shake):
    env = make_atari_env("tests.support.games:SteerBall-v0", seed=0)
    sizes = {"image_shape": (64, 64, 3), "channels": (2, 2, 2, 2), "num_categoricals": 3, "num_classes": 4}
    world_model = shake(GLAMWorldModel(1, GLAMDynamics(8, d_state=3), **sizes)).eval()
    actor = shake(make_actor(12, 8, env.action_spec, hidden=8))
    policy = GLAMPolicy(world_model, actor, env.action_spec, context_length=LENGTH)
    torch.manual_seed(0)
    collector = Collector(env, policy, frames_per_batch=1, total_frames=10, auto_register_policy_transforms=True)
    records = torch.cat([record.clone() for record in collector])
    collector.shutdown()
    assert records["action"].dtype == torch.float32
    assert records["action"].abs().max() <= 1
    assert len(records["action"].unique()) == 10
    for t in range(10):
        past = records["action"][max(0, t - LENGTH) : t]
        assert torch.equal(records["context", "action"][t, : len(past)], past)
        assert records["context", "length"][t] == len(past)


def test_records_that_leave_the_policy_match_the_primer(make_world_model):
    world_model = make_world_model()
    policy = make_policy(world_model, Recorder())
    spec = policy.make_tensordict_primer().primers["context"]
    outputs = policy(make_inputs(world_model, [1]))["next", "context"]
    assert set(spec.keys()) == set(outputs.keys()) == {"state", "action", "length"}
    for key in outputs.keys():  # noqa: SIM118 (a tensordict iterates over its batch)
        assert outputs[key].shape[1:] == spec[key].shape, key
        assert outputs[key].dtype == spec[key].dtype, key


# One call


def test_elements_with_contexts_of_different_lengths(make_world_model):
    world_model = make_world_model(GLAMDynamics(8, global_layers=2, local_layers=2, d_state=3))
    actor = Recorder()
    inputs = make_inputs(world_model, [0, 1, 2, 3, 4])
    make_policy(world_model, actor)(inputs.clone())
    for element in range(1, 5):
        context = inputs["context"][element]
        wanted = belief_of(world_model, [*one_hot(context["state"][:element])], [*context["action"][:element]])
        torch.testing.assert_close(actor.seen[0]["belief"][element], wanted)


def test_the_context_grows_then_shifts(make_world_model):
    world_model = make_world_model()
    latents = recorded(world_model)
    inputs = make_inputs(world_model, [0, 2, 3, 4])
    outputs = make_policy(world_model, Recorder())(inputs.clone())
    came = outputs["next", "context"]
    assert came["length"].flatten().tolist() == [1, 3, 4, 4]
    for element, length in enumerate([0, 2, 3, 4]):
        for key, entry in (("state", latents[0].unflatten(-1, (3, 4)).argmax(-1)), ("action", outputs["action"])):
            old = inputs["context", key][element, :length]
            wanted = torch.cat([old, entry[element, None].to(old.dtype)])[-LENGTH:]
            assert torch.equal(came[key][element, : len(wanted)], wanted), (element, key)
            assert not came[key][element, len(wanted) :].any()
    assert (outputs["context"] == inputs["context"]).all(), "the context that was read stays as it was"


def test_an_empty_context_means_a_uniform_action(make_world_model):
    world_model = make_world_model()
    torch.manual_seed(0)
    inputs = make_inputs(world_model, [0, 1] * 1500)
    for exploration in (ExplorationType.RANDOM, ExplorationType.DETERMINISTIC):
        with set_exploration_type(exploration):
            action = make_policy(world_model, Recorder())(inputs.clone())["action"]
        counts = action[::2].sum(0)
        assert ((counts - 500.0) ** 2 / 500).sum() < 13.8, "chi-square with 2 degrees of freedom"
        assert (action[1::2] == torch.tensor([0, 0, 1])).all(), "the actor acts for the others"


@pytest.mark.parametrize("batched_spec", [True, False])
def test_an_empty_context_means_a_uniform_continuous_action(make_world_model, batched_spec):
    low, high = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 10.0, 3.0])
    spec = Bounded(low, high).expand(4000, 3) if batched_spec else Bounded(low, high)
    world_model = make_world_model()
    actor = make_actor(world_model.state_size, 8, spec, hidden=8)
    nn.init.constant_(actor.module[0].module.network.output.bias, 100.0)
    torch.manual_seed(0)
    policy = GLAMPolicy(world_model, actor, spec, context_length=LENGTH)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        action = policy(make_inputs(world_model, [0, 1] * 2000))["action"]
    assert action.shape == (4000, 3)
    assert action.dtype == torch.float32
    uniform = ((action[::2] - low) / (high - low)).sort(0).values
    distance = (uniform - torch.linspace(0, 1, 2000)[:, None]).abs().amax(0)
    assert (distance < 1.95 / 2000**0.5).all(), "Kolmogorov-Smirnov at 0.1 %"
    assert (action[1::2] > high - 0.01 * (high - low)).all(), "the actor, which wants the most, acts for the others"


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_any_batch_shape(make_world_model, shape):
    world_model = make_world_model()
    actor = Recorder()
    inputs = make_inputs(world_model, torch.full(shape, 2))
    outputs = make_policy(world_model, actor)(inputs.clone())
    assert outputs["action"].shape == (*shape, 3)
    assert outputs["next", "context"].shape == shape
    assert outputs["next", "context", "state"].shape == (*shape, LENGTH, 3)
    one = (0,) * len(shape)
    context = inputs["context"][one] if shape else inputs["context"]
    seen = actor.seen[0]["belief"][one]
    torch.testing.assert_close(seen, belief_of(world_model, [*one_hot(context["state"][:2])], [*context["action"][:2]]))


@pytest.mark.parametrize("sees", ["prior", "posterior"])
def test_sees_names_the_latent_that_the_actor_gets(make_world_model, sees):
    world_model = make_world_model(unimix=0.0)
    for head, winner in ((world_model.encoder.head, 1), (world_model.prior_head.linear, 3)):
        nn.init.zeros_(head.weight)
        head.bias.data = torch.eye(4)[winner].repeat(3) * 1e3
    actor = Recorder()
    inputs = make_inputs(world_model, [3, 4])
    outputs = make_policy(world_model, actor, sees=sees)(inputs.clone())
    observed, imagined = torch.eye(4)[1].repeat(3), torch.eye(4)[3].repeat(3)
    assert (actor.seen[0]["state"] == (imagined if sees == "prior" else observed)).all()
    assert (one_hot(outputs["next", "context", "state"][:, 3]) == observed).all(), (
        "the frame itself is remembered either way"
    )
    for element, length in enumerate([3, 4]):
        context = inputs["context"][element]
        wanted = belief_of(world_model, [*one_hot(context["state"][:length])], [*context["action"][:length]])
        torch.testing.assert_close(actor.seen[0]["belief"][element], wanted)


def test_the_latent_it_sees_is_drawn_from_the_prior(make_world_model):
    world_model, actor = make_world_model(), Recorder()
    inputs = make_inputs(world_model, [3])
    torch.manual_seed(0)
    make_policy(world_model, actor)(inputs.expand(8000))
    with torch.no_grad():
        p = world_model.prior_head(actor.seen[0]["belief"][0]).exp()
    counts = actor.seen[0]["state"].unflatten(-1, (3, 4)).sum(0)
    assert ((counts - 8000 * p) ** 2 / (8000 * p)).sum() < 27.9, "chi-square with 9 degrees of freedom"


def test_a_context_of_probabilities(make_world_model):
    """It holds them unrounded, and a residual prior goes on from the last one."""
    world_model = make_world_model(expected_posterior=True, expected_prior=True, residual_prior=True)
    actor, pixels = Recorder(), torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8)
    policy = make_policy(world_model, actor)
    context, actions = policy.context_spec.zero(), []
    for frame in pixels:
        played = policy(TensorDict({"pixels": frame, "context": context}))
        context = played["next", "context"]
        actions.append(played["action"])
    with torch.no_grad():
        states = world_model.encoder(pixels)[0].exp().flatten(-2)
        belief = belief_of(world_model, [*states[:3]], actions[:3])
        wanted = world_model.predict_logits(belief, states[2]).exp().flatten(-2)
    torch.testing.assert_close(context["state"], states)
    torch.testing.assert_close(actor.seen[3]["belief"], belief)
    torch.testing.assert_close(actor.seen[3]["state"], wanted)


def test_greedy_acting_takes_the_most_likely_action(make_world_model, shake):
    world_model = make_world_model()
    actor = shake(make_actor(world_model.state_size, 8, OneHot(3), hidden=8), 1.0)
    logits = []
    actor.module[0].register_forward_hook(lambda *arguments: logits.append(arguments[2]["logits"].clone()))
    policy, inputs = make_policy(world_model, actor), make_inputs(world_model, [1, 2, 3, 4] * 50)
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        action = policy(inputs.clone())["action"]
    assert torch.equal(action.argmax(-1), logits[0].argmax(-1))
    with set_exploration_type(ExplorationType.RANDOM):
        action = policy(inputs.clone())["action"]
    assert not torch.equal(action.argmax(-1), logits[1].argmax(-1))


def test_acting_tracks_no_gradient(make_world_model, shake):
    world_model = make_world_model()
    actor = shake(make_actor(world_model.state_size, 8, OneHot(3), hidden=8))
    outputs = make_policy(world_model, actor)(make_inputs(world_model, [2]))
    assert not any(leaf.requires_grad for leaf in outputs.values(True, True))


def test_an_unknown_view_is_refused(make_world_model):
    with pytest.raises(UsageError, match="sees is 'future': choose one of prior, posterior"):
        make_policy(make_world_model(), Recorder(), sees="future")


def test_acting_without_the_primer_is_refused(make_world_model):
    world_model = make_world_model()
    inputs = make_inputs(world_model, [2]).exclude("context")
    wanted = r"env\.append_transform\(policy\.make_tensordict_primer\(\)\), or .* auto_register_policy_transforms=True"
    with pytest.raises(UsageError, match=rf"there is no context: call {wanted}"):
        make_policy(world_model, Recorder())(inputs)
