"""The world model as an environment, against plain modules and TorchRL's own expectations."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchrl.collectors import Collector
from torchrl.data import Bounded, Categorical, OneHot
from torchrl.envs import ImaginedEnv, StepCounter, TransformedEnv
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type
from torchrl.modules import WorldModelWrapper
from torchrl.objectives import A2CLoss, ClipPPOLoss, SoftUpdate
from torchrl.objectives.dreamer_v3 import DreamerV3ActorLoss, DreamerV3ValueLoss

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMDynamics, SlidingWindow, make_actor, make_critic
from torchrl_glam.modules.actor_critic import make_symexp_critic

BATCH = 3
BOX = Bounded(-1, 1, (3,))


@pytest.fixture
def world_model(make_world_model):
    """A world model of which the dynamics are deep enough to nest memories."""
    return make_world_model(GLAMDynamics(8, global_layers=2, d_state=3))


@pytest.fixture
def env(world_model):
    """The world model as an environment."""
    return GLAMImaginedEnv(world_model, OneHot(3), batch_size=BATCH)


@pytest.fixture
def actor(world_model, shake):
    """A policy that is far from uniform."""
    return shake(make_actor(world_model.state_size, 8, OneHot(3), hidden=8), 1.0)


@pytest.fixture
def contexts(make_batch):
    """Real data to start from."""
    return make_batch(BATCH, 5)


def start_of(env, contexts, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        return env.start(contexts["pixels"], contexts["action"])


def imagine(env, start, actor, horizon=6, seed=2):
    torch.manual_seed(seed)
    with torch.no_grad():
        return env.imagine(start, actor, horizon)


@pytest.mark.parametrize("batch_size", [1, 3, None, (), (3,), torch.Size([2, 3])])
@pytest.mark.parametrize("spec", [OneHot(3), BOX], ids=["one-hot", "continuous"])
def test_torchrl_accepts_the_specs(world_model, batch_size, spec):
    env = GLAMImaginedEnv(world_model, spec, batch_size=batch_size)
    with torch.no_grad():
        check_env_specs(env)
    assert isinstance(env, ImaginedEnv)
    assert isinstance(env.world_model, WorldModelWrapper)
    batch = (batch_size,) if isinstance(batch_size, int) else batch_size or ()
    assert env.batch_size == batch
    assert env.action_spec == spec.expand(*batch, 3)
    assert env.observation_spec["state"].shape == (*batch, 12)
    assert env.observation_spec["belief"].shape == (*batch, 8)
    assert env.full_reward_spec["reward"].shape == (*batch, 1)
    assert set(env.full_done_spec.keys()) == {"done", "terminated"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (OneHot(3).expand(4, 3), r"OneHot of shape \(4, 3\): .* \(3,\); give env\.action_spec_unbatched"),
        (Categorical(3), r"Categorical of shape \(\): .* one-hot actions \(categorical_action_encoding=False"),
        (OneHot(4), r"OneHot of shape \(4,\): the world model wants \(3,\); give the spec of the actions"),
    ],
    ids=["batched", "categorical", "wide"],
)
def test_other_actions_are_refused(world_model, spec, message):
    with pytest.raises(UsageError, match=message):
        GLAMImaginedEnv(world_model, spec)


@pytest.mark.parametrize("batch_size", [3, None])
def test_torchrl_accepts_the_specs_of_a_sliding_memory(world_model, batch_size):
    dynamics = SlidingWindow(world_model.dynamics, 3)
    with torch.no_grad():
        check_env_specs(GLAMImaginedEnv(world_model, OneHot(3), batch_size=batch_size, dynamics=dynamics))


def test_steps_go_through_the_wrapper(env, actor, contexts):
    calls = []
    env.world_model.register_forward_hook(lambda *_: calls.append(1))
    imagine(env, start_of(env, contexts), actor, horizon=4)
    assert len(calls) == 4


def test_imagine_equals_a_loop_over_plain_modules(env, world_model, actor, contexts):
    start = start_of(env, contexts)
    rollout = imagine(env, start, actor)
    layers = actor.module[0].module
    state, belief, memory = start["state"], start["belief"], start["memory"]
    torch.manual_seed(2)
    with torch.no_grad():
        for t in range(6):
            logits = layers.output(layers.trunk(torch.cat([state, belief], -1)))
            action = torch.distributions.OneHotCategorical(logits=logits).sample()
            assert torch.equal(rollout["state"][:, t], state)
            assert torch.equal(rollout["belief"][:, t], belief)
            assert torch.equal(rollout["action"][:, t].float(), action)
            wanted = (logits.log_softmax(-1) * action).sum(-1)
            torch.testing.assert_close(rollout["action_log_prob"][:, t], wanted)

            token = world_model.embedding.layers(torch.cat([state, action], -1))
            belief, memory = world_model.dynamics.step(token, memory)
            p = world_model.prior_head(belief).exp()
            cumulative = p.cumsum(-1)
            drawn = (cumulative <= torch.rand_like(p[..., :1]) * cumulative[..., -1:]).sum(-1)
            state = torch.eye(4)[drawn].flatten(-2)
            reward = (world_model.reward_head(belief).softmax(-1) * torch.linspace(-20, 20, 255)).sum(-1, keepdim=True)
            after = rollout["next"][:, t]
            assert torch.equal(after["state"], state)
            torch.testing.assert_close(after["belief"], belief)
            torch.testing.assert_close(after["reward"], reward.sign() * reward.abs().expm1(), rtol=1e-3, atol=1e-4)
            assert torch.equal(after["terminated"], world_model.termination_head(belief) > 0)
            assert torch.equal(after["done"], after["terminated"])
    assert len(rollout["action"].flatten(0, 1).unique(dim=0)) > 1, "a constant action would prove little"


def roll_out(env, start, actor, horizon=6, seed=2, **options):
    """TorchRL's way."""
    torch.manual_seed(seed)
    options = {"auto_reset": False, "break_when_any_done": False, **options}
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        return env.rollout(horizon, actor, tensordict=start.clone(), **options)


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("spec", [OneHot(3), BOX], ids=["one-hot", "continuous"])
def test_imagine_equals_rollout(world_model, contexts, shake, sliding, spec):
    dynamics = SlidingWindow(world_model.dynamics, 3) if sliding else None  # as long as the contexts: fixed shapes
    actor = shake(make_actor(world_model.state_size, 8, spec, hidden=8), 1.0)
    env = GLAMImaginedEnv(world_model, spec, batch_size=BATCH, dynamics=dynamics)
    start = start_of(env, contexts)
    rollout = imagine(env, start, actor)
    wanted = roll_out(env, start, actor)
    assert rollout.shape == (BATCH, 6)
    keys = set(rollout.keys(True, True))
    assert {("next", key) for key in ("state", "belief", "reward", "terminated", "done")} < keys
    assert {"state", "belief", "action"} < keys
    assert keys <= set(wanted.keys(True, True))
    for key in keys:
        assert torch.equal(rollout[key], wanted[key]), key


def test_rollout_keeps_the_memory_of_every_step(env, world_model, actor, contexts):
    start = start_of(env, contexts)
    rollout = roll_out(env, start, actor, horizon=4)
    with torch.no_grad():
        memory = start["memory"]
        for t in range(4):
            assert (rollout["memory"][:, t] == memory).all()
            token = world_model.embedding(rollout["state"][:, t], rollout["action"][:, t])
            memory = world_model.dynamics.step(token, memory)[1]
            assert (rollout["next", "memory"][:, t] == memory).all()


@pytest.mark.parametrize("until_done", [False, True])
def test_rollout_may_leave_the_memory_out(env, world_model, actor, contexts, until_done):
    forgetful = GLAMImaginedEnv(world_model, OneHot(3), batch_size=BATCH, keep_memory=False)
    start = start_of(env, contexts)
    wanted = roll_out(env, start, actor, break_when_any_done=until_done).exclude("memory", ("next", "memory"))
    rollout = roll_out(forgetful, start, actor, break_when_any_done=until_done)
    assert set(rollout.keys(True, True)) == set(wanted.keys(True, True))
    assert (rollout == wanted).all()


def test_continuous_actions_enter_the_tokens_as_they_are(env, world_model, contexts, shake):
    actor = shake(make_actor(world_model.state_size, 8, BOX, hidden=8), 1.0)
    start = start_of(env, contexts)
    rollout = imagine(env, start, actor)
    assert BOX.is_in(rollout["action"])
    assert len(rollout["action"].flatten(0, 1).unique(dim=0)) == BATCH * 6
    with torch.no_grad():
        token = world_model.embedding.layers(torch.cat([start["state"], rollout["action"][:, 0]], -1))
        belief, _ = world_model.dynamics.step(token, start["memory"])
    assert torch.equal(rollout["next", "belief"][:, 0], belief)


class RefuseToWait(TorchDispatchMode):
    """Fails where a number is read out of a tensor: a GPU would have to be waited for, and not be captured."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number is read out of a tensor"
        return func(*args, **(kwargs or {}))


def test_imagining_continuous_actions_waits_for_no_device(world_model, contexts, shake):
    env = GLAMImaginedEnv(world_model, BOX, batch_size=BATCH)
    actor = shake(make_actor(world_model.state_size, 8, env.action_spec, hidden=8))
    start = start_of(env, contexts)
    with RefuseToWait(), torch.no_grad():
        rollout = env.imagine(start, actor, 3)
        with pytest.raises(AssertionError, match="a number is read"):
            bool(rollout["next", "reward"][0, 0] > 0)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [BATCH, None])
def test_compiled_continuous_actions(world_model, contexts, shake, batch_size):
    actor = shake(make_actor(world_model.state_size, 8, BOX, hidden=8), 1.0)
    plain, compiled = (
        GLAMImaginedEnv(world_model, BOX, batch_size=batch_size, compiled=compiled) for compiled in (False, True)
    )
    start = start_of(plain, contexts)
    try:
        if batch_size is None:
            start = start[None]
            wanted, got = roll_out(plain, start, actor), roll_out(compiled, start, actor)
        else:
            wanted, got = imagine(plain, start, actor), imagine(compiled, start, actor)
    finally:
        torch.compiler.reset()
    assert set(got.keys(True, True)) == set(wanted.keys(True, True))
    for key, value in wanted.items(True, True):
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-4, msg=str(key))


def test_without_a_batch_size_any_shape_will_do(env, world_model, actor, make_batch):
    free = GLAMImaginedEnv(world_model, OneHot(3))
    start = start_of(free, make_batch(6, 5))
    flat = roll_out(free, start, actor)
    rollout = roll_out(free, start.reshape(2, 3), actor)
    assert rollout.shape == (2, 3, 6)
    assert (rollout.reshape(6, 6) == flat).all()
    assert roll_out(free, start[0], actor).shape == (6,)
    assert (imagine(free, start[:BATCH], actor) == imagine(env, start[:BATCH], actor)).all()
    with torch.no_grad():
        fresh = free.reset(TensorDict(batch_size=[2, 3]))
    assert fresh["memory"].shape == (2, 3)
    assert (fresh["state"].unflatten(-1, (3, 4)).sum(-1) == 1).all()


def test_next_is_the_following_root_and_shares_its_storage(env, actor, contexts):
    rollout = imagine(env, start_of(env, contexts), actor)
    for key in ("state", "belief"):
        assert torch.equal(rollout["next", key][:, :-1], rollout[key][:, 1:])
        assert rollout["next", key][:, 0].data_ptr() == rollout[key][:, 1].data_ptr()


def test_memory_is_not_in_the_result_and_the_start_stays_as_it_was(env, actor, contexts):
    start = start_of(env, contexts)
    copy = start.clone()
    rollout = imagine(env, start, actor)
    assert not any("memory" in (key if isinstance(key, tuple) else (key,)) for key in rollout.keys(True))
    assert set(start.keys(True, True)) == set(copy.keys(True, True))
    assert (start == copy).all()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_any_number_of_contexts_will_do_for_imagine(env, actor, make_batch, batch):
    contexts = make_batch(batch, 5)
    start = start_of(env, contexts)
    assert start.shape == (batch,)
    assert not start["done"].any()
    assert not start["terminated"].any()
    assert imagine(env, start, actor, horizon=1).shape == (batch, 1)


def test_start_is_the_end_of_a_real_sequence(env, world_model, make_batch):
    """Belief and memory are the ones of the training pass over the same latents."""
    batch = make_batch(BATCH, 7)
    torch.manual_seed(4)
    with torch.no_grad():
        outputs = world_model(batch.select("pixels", "action").clone())
    start = start_of(env, batch, seed=4)
    torch.testing.assert_close(start["belief"], outputs["belief"][:, -1])
    with torch.no_grad():
        tokens = world_model.embedding(outputs["state"], batch["action"])
    wanted = world_model.dynamics(tokens)[1]
    for key in wanted.keys(True, True):
        torch.testing.assert_close(start["memory"][key], wanted[key])


def test_a_rollout_goes_on_where_the_world_model_would(env, world_model, actor, contexts):
    """The beliefs of imagination are those of one forward pass over real and imagined tokens."""
    torch.manual_seed(1)
    with torch.no_grad():
        real = world_model.encode(contexts["pixels"])
        rollout = imagine(env, start_of(env, contexts), actor)
        state = torch.cat([real, rollout["state"]], 1)
        action = torch.cat([contexts["action"], rollout["action"]], 1)
        beliefs, _ = world_model.dynamics(world_model.embedding(state, action))
    torch.testing.assert_close(rollout["next", "belief"], beliefs[:, 5:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first", [0, 2])
def test_starts_within_a_batch_are_its_prefixes(env, world_model, make_batch, first):
    """All of them: belief and memory of each prefix, and the posterior of the frame after it."""
    batch = make_batch(2, 7)
    with torch.no_grad():
        state, action = world_model.encode(batch["pixels"]), batch["action"]
        starts = env.start_within(state, action, number=2 * (6 - first), first=first)
        tokens = world_model.embedding(state, action)
        prefixes = {(row, t): world_model.dynamics(tokens[row : row + 1, : t + 1]) for row in (0, 1) for t in range(6)}
    assert starts.shape == (2 * (6 - first),)
    assert not starts["done"].any()
    assert not starts["terminated"].any()
    found = set()
    for start in starts.unbind(0):
        row, t = min(prefixes, key=lambda prefix: (prefixes[prefix][0][0, -1] - start["belief"]).abs().max())
        found.add((row, t))
        beliefs, memory = prefixes[row, t]
        torch.testing.assert_close(start["belief"], beliefs[0, -1], rtol=1e-4, atol=1e-4)
        assert torch.equal(start["state"], state[row, t + 1])
        for key in memory.keys(True, True):
            torch.testing.assert_close(start["memory"][key], memory[key][0], rtol=1e-4, atol=1e-4)
    assert found == {(row, t) for row in (0, 1) for t in range(first, 6)}, "each once"


def test_starts_within_a_batch_are_drawn_without_replacement_and_imagine_goes_on(env, world_model, actor, make_batch):
    batch = make_batch(2, 6)
    torch.manual_seed(0)
    with torch.no_grad():
        state = world_model.encode(batch["pixels"])
        starts = [env.start_within(state, batch["action"], number=BATCH) for _ in range(8)]
    assert all(len(start["belief"].unique(dim=0)) == BATCH for start in starts)
    assert len(torch.cat([start["belief"] for start in starts]).unique(dim=0)) == 10, "every place comes up"
    reset = env.reset(starts[0].clone())
    assert torch.equal(reset["state"], starts[0]["state"])
    rollout = imagine(env, starts[0], actor, horizon=3)
    with torch.no_grad():
        token = world_model.embedding(starts[0]["state"], rollout["action"][:, 0])
        belief, _ = world_model.dynamics.step(token, starts[0]["memory"])
    assert torch.equal(rollout["next", "belief"][:, 0], belief)


@pytest.mark.parametrize(("number", "first"), [(11, 0), (7, 2), (1, 5)])
def test_more_starts_than_a_batch_has_are_refused(env, make_batch, number, first):
    with pytest.raises(UsageError, match=f"{number} starts are wanted of 2 sequences with {2 * (5 - first)} steps"):
        env.start_within(torch.zeros(2, 6, 12), make_batch(2, 6)["action"], number=number, first=first)


@pytest.mark.parametrize(("logit", "ends"), [(0.01, True), (0.0, False), (-0.01, False)])
def test_terminated_where_the_logit_is_above_zero(env, world_model, actor, contexts, logit, ends):
    nn.init.zeros_(world_model.termination_head.logit.weight)
    nn.init.constant_(world_model.termination_head.logit.bias, logit)
    rollout = imagine(env, start_of(env, contexts), actor, horizon=3)
    for key in ("terminated", "done"):
        assert rollout["next", key].dtype == torch.bool
        assert (rollout["next", key] == ends).all(), "imagination goes on to its horizon"


@pytest.mark.parametrize("horizon", [0, -1])
def test_a_horizon_below_one_is_refused(env, actor, contexts, horizon):
    with pytest.raises(UsageError, match=f"horizon is {horizon}: imagine wants at least one step"):
        env.imagine(start_of(env, contexts), actor, horizon)


@pytest.mark.parametrize("missing", ["memory", "state", "belief"])
def test_a_start_that_lacks_something_is_refused(env, actor, contexts, missing):
    start = start_of(env, contexts).exclude(missing)
    advice = r"give what env\.start or env\.reset returned"
    with pytest.raises(UsageError, match=f"start has no {missing}: {advice}"):
        env.imagine(start, actor, 3)


def test_frames_and_actions_of_other_kinds_are_refused(env, contexts):
    pixels, action = contexts["pixels"], contexts["action"]
    with pytest.raises(UsageError, match=r"the pixels are torch\.float32"):
        env.start(pixels / 255, action)
    with pytest.raises(UsageError, match="the actions have shape"):
        env.start(pixels, action.argmax(-1, keepdim=True))


def test_reset_takes_a_start_and_invents_one(env, contexts):
    start = start_of(env, contexts)
    reset = env.reset(start.clone())
    for key in ("state", "belief"):
        assert torch.equal(reset[key], start[key])
    assert (reset["memory"] == start["memory"]).all()
    with torch.no_grad():
        fresh = env.reset()
    assert not any(leaf.any() for leaf in fresh["memory"].values(True, True))
    assert not fresh["belief"].any()
    assert (fresh["state"].unflatten(-1, (3, 4)).sum(-1) == 1).all()


def test_reset_unpacks_a_start(env, contexts):
    start = start_of(env, contexts)
    reset = env.reset(TensorDict({"start": start}, [BATCH]))
    assert set(reset.keys()) == {"state", "belief", "memory", "done", "terminated"}
    assert (reset == start).all()


def test_policy_is_random_also_where_the_caller_is_deterministic(env, contexts, world_model):
    actor = make_actor(world_model.state_size, 8, OneHot(3), hidden=8)
    nn.init.zeros_(actor.module[0].module.output.weight)
    nn.init.zeros_(actor.module[0].module.output.bias)
    start = start_of(env, contexts)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = imagine(env, start, actor, horizon=30)
    assert (rollout["action"].sum((0, 1)) > 15).all()


def test_graphs_only_where_gradients_are_enabled(env, world_model, actor, contexts):
    start = start_of(env, contexts)
    assert not any(leaf.requires_grad for leaf in imagine(env, start, actor).values(True, True))
    rollout = env.imagine(env.start(contexts["pixels"], contexts["action"]), actor, 3)
    gradients = torch.autograd.grad(
        rollout["next", "reward"][:, -1].sum(),
        [world_model.encoder.head.weight, world_model.dynamics.gmamba.output[0].weight],
    )
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("loss_class", [ClipPPOLoss, A2CLoss])
def test_a_stock_loss_runs_on_an_imagined_rollout(env, world_model, actor, contexts, shake, loss_class):
    critic = shake(make_critic(world_model.state_size, 8, hidden=8), 0.05)
    rollout = imagine(env, start_of(env, contexts), actor)
    loss = loss_class(actor, critic)
    terms = loss(rollout)  # its own GAE
    total = sum(value for key, value in terms.items() if key.startswith("loss_"))
    assert torch.isfinite(total)
    total.backward()
    for network in (loss.actor_network_params, loss.critic_network_params):
        assert any(leaf.grad.abs().sum() > 0 for leaf in network.values(True, True) if leaf.grad is not None)
    assert all(parameter.grad is None for parameter in world_model.parameters())


def make_dreamer(env, actor, shake, **options):
    """TorchRL's losses of actor and critic, and a start for the first."""
    critic = shake(make_symexp_critic(12, 8, hidden=8), 0.05)
    continuation = env.make_continuation_model()
    actor_loss = DreamerV3ActorLoss(
        actor, critic, env, continuation_model=continuation, imagination_horizon=6, **options
    )
    actor_loss.set_keys(state="start", belief="start")
    actor_loss.make_value_estimator(gamma=0.98, lmbda=0.95)
    value_loss = DreamerV3ValueLoss(critic, "two_hot", slow_critic_regularization=1.0, actor_loss=actor_loss)
    SoftUpdate(value_loss, tau=0.02)
    return actor_loss, value_loss


@pytest.mark.parametrize("keep_memory", [True, False])
@pytest.mark.parametrize(
    ("spec", "use_reinforce"),
    [(OneHot(3), True), (BOX, True), (BOX, False)],
    ids=["one-hot", "continuous", "through the dynamics"],
)
def test_dreamer_losses_imagine_from_a_whole_start(world_model, contexts, shake, keep_memory, spec, use_reinforce):
    env = GLAMImaginedEnv(world_model, spec, batch_size=BATCH, keep_memory=keep_memory)
    actor = shake(make_actor(12, 8, spec, hidden=8), 1.0)
    start = start_of(env, contexts)
    actor_loss, value_loss = make_dreamer(env, actor, shake, use_reinforce=use_reinforce)
    torch.manual_seed(2)
    terms, rollout = actor_loss(TensorDict({"start": start}, [BATCH]))
    terms.update(value_loss(rollout)[0])
    assert all(value.isfinite() for value in terms.values())

    assert ("memory" in rollout) == keep_memory
    assert "start" not in rollout
    wanted = imagine(env, start, actor)
    for key in ("state", "belief", "action", ("next", "belief"), ("next", "reward")):
        assert torch.equal(rollout[key], wanted[key]), key
    with torch.no_grad():
        logit = world_model.termination_head(rollout["belief"])
    torch.testing.assert_close(rollout["continuation"], 1 - logit.sigmoid())
    assert rollout["continuation"].std() > 0.01

    terms["loss_actor"].backward()
    assert all(parameter.grad.any() for parameter in actor.parameters())
    assert all(parameter.grad is None for parameter in [*world_model.parameters(), *value_loss.parameters()])
    terms["loss_value"].backward()
    assert all(parameter.grad.any() for parameter in value_loss.parameters() if parameter.requires_grad)
    assert all(parameter.grad is None for parameter in world_model.parameters())


def test_dreamer_losses_start_from_the_memory(env, actor, contexts, shake):
    """Two starts that differ in nothing else go different ways at the first step."""
    start, other = start_of(env, contexts), start_of(env, contexts.flip(1))
    other.update(start.select("state", "belief"))
    actor_loss, _ = make_dreamer(env, actor, shake, use_reinforce=True)
    beliefs = []
    for one in (start, other):
        torch.manual_seed(2)
        rollout = actor_loss(TensorDict({"start": one}, [BATCH]))[1]
        beliefs.append(rollout["next", "belief"][:, 0])
        assert torch.equal(rollout["action"][:, 0], imagine(env, start, actor, horizon=1)["action"][:, 0])
    assert (beliefs[0] - beliefs[1]).abs().amax(-1).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "use_reinforce"), [(OneHot(3), True), (BOX, False)], ids=["one-hot", "continuous"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch 2.13 at such inputs
def test_dreamer_losses_imagine_in_a_compiled_env(world_model, contexts, shake, spec, use_reinforce):
    """The plain one's numbers; where gradients flow through the steps, the first one has a graph of its own."""
    graphs = 1 if use_reinforce else 2
    actor, results = shake(make_actor(12, 8, spec, hidden=8), 1.0), []
    torch._dynamo.utils.counters.clear()
    try:
        for compiled in (False, True):
            env = GLAMImaginedEnv(world_model, spec, batch_size=BATCH, keep_memory=False, compiled=compiled)
            torch.manual_seed(0)
            actor_loss, _ = make_dreamer(env, actor, shake, use_reinforce=use_reinforce)
            start = start_of(env, contexts)
            torch.manual_seed(2)
            terms, rollout = actor_loss(TensorDict({"start": start}, [BATCH]))
            actor.zero_grad()
            terms["loss_actor"].backward()
            gradients = {name: parameter.grad for name, parameter in actor.named_parameters()}
            results.append(TensorDict({"terms": terms, "rollout": rollout, "gradients": gradients}).detach().clone())
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (graphs if compiled else 0)
    finally:
        torch.compiler.reset()
    wanted, got = results
    assert all(gradient.any() for gradient in wanted["gradients"].values())
    assert set(got.keys(True, True)) == set(wanted.keys(True, True))
    for key, value in wanted.items(True, True):
        torch.testing.assert_close(got[key], value, rtol=1e-3, atol=1e-4, msg=str(key))


def test_parameters_are_shared(env, world_model):
    known = {id(parameter) for parameter in world_model.parameters()}
    assert {id(parameter) for parameter in env.parameters()} <= known


def test_a_plain_function_may_be_the_policy(env, contexts):
    def left(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", torch.eye(3)[1].expand(BATCH, 3))

    rollout = imagine(env, start_of(env, contexts), left, horizon=2)
    assert (rollout["action"] == torch.eye(3)[1]).all()


def test_a_collector_starts_episodes_where_it_is_told(make_world_model, make_batch):
    """And, where one ends before the others, that one alone."""
    world_model = make_world_model()
    batch = make_batch(4, 6)
    given = []

    def starts():
        given.append(source.start(batch["pixels"], batch["action"]))
        return given[-1]

    source = GLAMImaginedEnv(world_model, OneHot(3), batch_size=4)
    nn.init.constant_(world_model.termination_head.logit.bias, -1.0)  # some episodes end by themselves
    env = TransformedEnv(GLAMImaginedEnv(world_model, OneHot(3), batch_size=4, starts=starts), StepCounter(5))
    actor = make_actor(world_model.state_size, 8, OneHot(3), hidden=8)
    torch.manual_seed(0)
    with torch.no_grad():
        (steps,) = Collector(
            env, actor, frames_per_batch=4 * 12, total_frames=4 * 12, auto_register_policy_transforms=True
        )
    assert steps.shape == (4, 12)
    begins = steps["step_count"].squeeze(-1) == 0
    assert begins[:, 0].all()
    assert begins.sum() > 4
    assert (begins.any(0) & ~begins.all(0)).any(), "not all at once"
    if steps["next", "done"][:, -1].any():
        given.pop()  # for the step after the last
    resets = iter(given[-int(begins.any(0).sum()) :])
    for step in begins.any(0).nonzero().flatten().tolist():
        start, begun = next(resets), begins[:, step]
        for key in ("state", "belief", ("memory", "gmamba", "previous")):
            torch.testing.assert_close(steps[key][begun, step], start[key][begun])
        if step:
            torch.testing.assert_close(steps["belief"][~begun, step], steps["next", "belief"][~begun, step - 1])
