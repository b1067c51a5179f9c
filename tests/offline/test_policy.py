"""Acting in real environments: the window against forward by hand, the carried memory against both."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.data import Bounded, OneHot
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import DecisionTransformerInferenceWrapper

from tests.support.backbones import prepare
from tests.support.decisions import make_network, make_windows
from tests.support.playing import actions_by_hand, as_actions, make_env, make_model, play
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import GLAMDynamics
from torchrl_glam.offline import (
    BehaviourCloningActor,
    DecisionPolicy,
    MambaDMActor,
    make_decision_actor,
)
from torchrl_glam.offline.base import SequenceActor

CASES = [
    ("mambadm", "InvertedPendulum-v5", None),
    ("mambadm", "InvertedPendulum-v5", 3),
    ("mambadm", "CartPole-v1", 3),
    ("dmamba", "InvertedPendulum-v5", 3),
]
STEPS = 40


@pytest.mark.parametrize(("name", "env_name", "num_envs"), [*CASES, ("dt", "InvertedPendulum-v5", 3)])
def test_window_is_forward_over_the_last_steps_of_the_episode(name, env_name, num_envs):
    network = make_model(name, env_name)
    steps = play(network, env_name, num_envs, STEPS, context=4)
    assert (steps["step_count"] > 4).any(), "beyond the window"
    ends = steps["next", "done"].squeeze(-1)
    assert ends.any(), "and beyond an episode's end"
    assert num_envs is None or (ends.any(0) & ~ends.all(0)).any(), "not all at a time"
    wanted = as_actions(actions_by_hand(network, steps, 4), env_name)
    torch.testing.assert_close(steps["action"], wanted.to(steps["action"].dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "env_name", "num_envs"), CASES)
def test_carried_memory_is_forward_over_the_whole_episode_and_so_is_a_window_as_long(name, env_name, num_envs):
    network = make_model(name, env_name)
    carried = play(network, env_name, num_envs, STEPS, memory="carried")
    assert carried["next", "done"].any()
    wanted = as_actions(actions_by_hand(network, carried, 10_000), env_name)
    torch.testing.assert_close(carried["action"], wanted.to(carried["action"].dtype), rtol=1e-4, atol=1e-4)
    longest = int(carried["step_count"].max()) + 1
    window = play(network, env_name, num_envs, STEPS, context=longest)
    for key in ("action", "observation"):
        torch.testing.assert_close(window[key], carried[key], rtol=1e-3, atol=1e-3)
    shorter = play(network, env_name, num_envs, STEPS, context=longest - 1)
    last = carried["step_count"] == longest - 1
    assert last.any()
    if env_name == "InvertedPendulum-v5":  # of two actions it may be the same
        assert (shorter["action"] - carried["action"])[last].abs().max() > 1e-5, "the steps that the window lost matter"


def test_torchrls_inference_wrapper_agrees_after_an_episode_as_long_as_the_window():
    network = make_model("mambadm", "InvertedPendulum-v5", max_steps=0)
    steps = play(network, "InvertedPendulum-v5", None, 4, context=4)
    assert steps["step_count"].flatten().tolist() == [0, 1, 2, 3]
    # The wrapper's action beside a step is the one before it.
    before = torch.nn.functional.pad(steps["action"], (0, 0, 1, 0))[:, :-1]
    inputs = steps.select("observation", "return_to_go").set("action", before)
    actor = make_decision_actor(network, Bounded(-3, 3, (1,)))
    wrapper = DecisionTransformerInferenceWrapper(actor, inference_context=4)
    found = wrapper(TensorDict(inputs.to_dict(), [1]))
    torch.testing.assert_close(found["action"], steps["action"][:, -1])


@pytest.mark.parametrize("memory", ["window", "carried"])
def test_a_collector_puts_the_memory_in(memory):
    network, env = make_model("mambadm", "CartPole-v1"), make_env("CartPole-v1", 2)
    policy = DecisionPolicy(make_decision_actor(network, env.action_spec), context=4, memory=memory)
    options = {"frames_per_batch": 60, "total_frames": 60, "auto_register_policy_transforms": True}
    (steps,) = Collector(env, policy, **options, exploration_type=ExplorationType.DETERMINISTIC)
    wanted = actions_by_hand(network, steps, 4 if memory == "window" else 100)
    assert torch.equal(steps["action"].argmax(-1), wanted.argmax(-1))
    leaves = [key[1:] for key in policy.out_keys[1:]]
    assert leaves == policy.in_keys[3:]
    assert all(steps[key].shape[:2] == (2, 30) for key in leaves)


def test_all_environments_are_one_call():
    network = make_model("mambadm", "CartPole-v1")
    shapes = []
    network.backbone.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(inputs[0].shape)))
    play(network, "CartPole-v1", 3, 5, context=4)
    assert shapes == [(3, 12, 8)] * 5


def test_exploration_decides_between_the_best_action_and_a_draw():
    network, env = make_model("mambadm", "CartPole-v1"), make_env("CartPole-v1")
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.1, 0.0]))
    policy = DecisionPolicy(make_decision_actor(network, env.action_spec))
    env = env.append_transform(policy.make_tensordict_primer())
    actions = {}
    for kind in (ExplorationType.DETERMINISTIC, ExplorationType.RANDOM):
        with set_exploration_type(kind):
            actions[kind] = env.rollout(40, policy, break_when_any_done=False)["action"][:, 0].tolist()
    assert actions[ExplorationType.DETERMINISTIC] == [True] * 40
    assert 5 < sum(actions[ExplorationType.RANDOM]) < 35


def make_inputs(policy, shape, observation, step_count=0):
    """Return an environment's step, with an empty memory."""
    memory = policy.make_tensordict_primer().primers["memory"].zero(shape)
    time = torch.full((*shape, 1), step_count)
    return TensorDict(
        {"observation": observation, "return_to_go": torch.ones(*shape, 1), "step_count": time, "memory": memory}, shape
    )


@pytest.mark.parametrize("memory", ["window", "carried"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_any_batch_shape_and_pixels(memory, shape):
    network = MambaDMActor((36, 36, 1), 3, width=8, num_layers=1, d_state=3).eval()
    policy = DecisionPolicy(make_decision_actor(network, OneHot(3)), context=3, memory=memory)
    pixels = torch.randint(256, (*shape, 36, 36, 1), dtype=torch.uint8)
    inputs = make_inputs(policy, shape, pixels)
    outputs = policy(inputs)
    assert outputs["action"].shape == (*shape, 3)
    assert outputs["action"].dtype == torch.int64
    assert outputs["next", "memory"].batch_size == shape
    layout = {key: (entry.shape, entry.dtype) for key, entry in inputs["memory"].items(True, True)}
    assert layout == {key: (entry.shape, entry.dtype) for key, entry in outputs["next", "memory"].items(True, True)}
    if memory == "window":
        assert torch.equal(outputs["next", "memory", "observation"][..., 0, :], pixels.flatten(-3))


@pytest.mark.parametrize("memory", ["window", "carried"])
def test_behaviour_cloning_and_stochastic_actors_act_too(memory):
    network = BehaviourCloningActor((5,), 3, output_size=6).eval()
    policy = DecisionPolicy(make_decision_actor(network, Bounded(-1, 1, (3,)), stochastic=True), memory=memory)
    observation = torch.randn(4, 5)
    wanted = (4 * (network.layers(network.encoder(observation))[:, :3] / 4).tanh()).tanh()
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        action = policy(make_inputs(policy, (4,), observation))["action"]
    torch.testing.assert_close(action, wanted)


def test_any_backbone_carries_its_memory_booleans_among_it():
    tokens = make_network("mambadm").tokens
    network = prepare(SequenceActor(tokens, GLAMDynamics(8, d_state=3)))
    policy = DecisionPolicy(make_decision_actor(network, Bounded(-1, 1, (3,))), memory="carried")
    windows = make_windows(2, 5)
    inputs = make_inputs(policy, (2,), windows["observation"][:, 0])
    for t, step in enumerate(windows.unbind(1)):
        inputs.update({"observation": step["observation"], "return_to_go": step["return_to_go"]})
        inputs.update({"step_count": step["time_step"]})
        outputs = policy(inputs)
        windows["action"][:, t] = outputs["action"]
        inputs["memory"] = outputs["next", "memory"]
    wanted = network(*(windows[key] for key in ("observation", "action", "return_to_go", "time_step"))).tanh()
    torch.testing.assert_close(windows["action"], wanted)


def test_acting_tracks_no_gradients():
    policy = DecisionPolicy(make_decision_actor(make_network("mambadm"), Bounded(-1, 1, (3,))), memory="carried")
    outputs = policy(make_inputs(policy, (2,), torch.randn(2, 5)))
    assert not any(entry.requires_grad for entry in outputs.values(True, True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mambadm", {"memory": "none"}, "memory is 'none': choose one of window, carried"),
        (
            "dt",
            {"memory": "carried"},
            "memory is 'carried', and that of DecisionTransformerActor is full after 6 steps",
        ),
        ("dt", {"context": 7}, "context=7: DecisionTransformerActor takes a window of 1 to 6 steps"),
        ("mambadm", {"context": 0}, "context=0: MambaDMActor takes a window of 1 to any number of steps"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    actor = make_decision_actor(make_network(name), Bounded(-1, 1, (3,)))
    with pytest.raises(UsageError, match=message):
        DecisionPolicy(actor, **options)


def test_what_is_missing_is_said():
    actor = make_decision_actor(make_network("mambadm"), Bounded(-1, 1, (3,)))
    policy = DecisionPolicy(actor)
    with pytest.raises(UsageError, match=r"there is no memory: call env.append_transform\(policy.make_tensordict_prim"):
        policy(make_inputs(policy, (2,), torch.randn(2, 5)).exclude("memory"))
    actor[0][0].module.initial_memory = lambda batch_size: TensorDict({"x": torch.ones(batch_size)}, [batch_size])
    with pytest.raises(UsageError, match="initial_memory has entries other than 0"):
        DecisionPolicy(actor, memory="carried")
