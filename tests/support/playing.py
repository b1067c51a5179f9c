"""Play in real environments by small models, and the actions that they should have chosen."""

from __future__ import annotations

import torch
from torchrl.envs import (
    Compose,
    DoubleToFloat,
    ExplorationType,
    GymEnv,
    SerialEnv,
    StepCounter,
    TargetReturn,
    TransformedEnv,
    set_exploration_type,
)

from tests.support.backbones import prepare
from torchrl_glam.offline import (
    DecisionPolicy,
    DecisionTransformerActor,
    DMambaActor,
    MambaDMActor,
    make_decision_actor,
)

SIZES = {"InvertedPendulum-v5": (4, 1), "CartPole-v1": (4, 2)}
CLASSES = {
    "mambadm": lambda *sizes, **options: MambaDMActor(*sizes, d_state=3, local_length=4, **options),
    "dmamba": lambda *sizes, **options: DMambaActor(*sizes, d_state=3, **options),
    "dt": lambda *sizes, **options: DecisionTransformerActor(*sizes, num_heads=2, context=12, **options),
}


def make_env(env_name, num_envs=None):
    """One environment, or several side by side, asked for a return of 30."""
    env = GymEnv(env_name) if num_envs is None else SerialEnv(num_envs, lambda: GymEnv(env_name))
    target = TargetReturn(30.0, mode="reduce", out_keys=["return_to_go"])
    env = TransformedEnv(env, Compose(DoubleToFloat(), target, StepCounter()))
    env.set_seed(0)
    return env


def make_model(name, env_name, **options):
    """A small model; every parameter matters."""
    torch.manual_seed(0)
    observation_size, action_size = SIZES[env_name]
    network = CLASSES[name]((observation_size,), action_size, width=8, num_layers=2, **options)
    network = prepare(network, torch.float32)
    network.set_statistics(torch.zeros(observation_size), torch.full((observation_size,), 0.3), 30.0)
    if action_size == 1:
        network.head.weight.data.mul_(0.05)  # gentle pushes: the pendulum stands for some steps
        network.head.bias.data.zero_()
    return network


def play(network, env_name, num_envs, steps, **options):
    """Steps ``[envs t]`` of greedy play, and the policy."""
    env = make_env(env_name, num_envs)
    policy = DecisionPolicy(make_decision_actor(network, env.action_spec), **options)
    env = env.append_transform(policy.make_tensordict_primer())
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        steps = env.rollout(steps, policy, break_when_any_done=False)
    env.close()
    return steps if num_envs else steps.unsqueeze(0)


def actions_by_hand(network, steps, context):
    """Outputs ``[envs t x]`` of forward over the last ``context`` steps of the episode, one window at a time."""
    outputs = []
    for env in steps:
        for t, count in enumerate(env["step_count"].flatten().tolist()):
            start = t - min(count, context - 1)
            window = env[start : t + 1]
            assert window["step_count"][0] == max(0, count - context + 1)
            with torch.no_grad():
                output = network(*(window[key] for key in ("observation", "action", "return_to_go", "step_count")))
            outputs.append(output[-1])
    return torch.stack(outputs).unflatten(0, steps.shape)


def as_actions(outputs, env_name):
    """The greedy actions of outputs."""
    if env_name == "CartPole-v1":
        return torch.nn.functional.one_hot(outputs.argmax(-1), 2)
    return 3 * outputs.tanh()  # the pendulum's bounds
