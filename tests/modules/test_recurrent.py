"""Mamba under TorchRL's recurrent keys: both modes agree, as do a collector, PPO's loss and GAE."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, InitTracker, SerialEnv, TransformedEnv
from torchrl.envs.utils import check_env_specs
from torchrl.modules import LSTMModule, OneHotCategorical, ProbabilisticActor, set_recurrent_mode
from torchrl.modules.utils import get_primers_from_module
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchrl_glam.errors import UsageError
from torchrl_glam.modules import MambaModule

KEYS = {"in_key": "observation", "out_key": "features"}
STATES = ["recurrent_state_conv", "recurrent_state_ssm"]


def make_module(dtype=torch.float64, **options):
    """A small module whose every parameter matters."""
    torch.manual_seed(0)
    module = MambaModule(3, 6, **{"num_layers": 2, "d_state": 3, **KEYS, **options}).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def make_steps(*resets, rows=2, length=12, dtype=torch.float64):
    """Random observations ``[rows length]``; in the first row sequences begin at ``resets``, in the others at 0."""
    torch.manual_seed(1)
    is_init = torch.zeros(rows, length, 1, dtype=torch.bool)
    is_init[1:, 0] = True
    is_init[0, list(resets)] = True
    observation = torch.randn(rows, length, 3, dtype=dtype)
    return TensorDict({"observation": observation, "is_init": is_init}, [rows, length])


def step_through(module, steps):
    """Run step by step, the state passed on; return what was written."""
    done, state = [], {}
    for step in steps.unbind(1):
        done.append(module(step.copy().update(state)).select("features", "next"))
        state = done[-1]["next"].select(*STATES)
    return torch.stack(done, 1)


@pytest.mark.parametrize("options", [{}, {"num_layers": 1, "d_conv": 1}, {"backend": "reference"}], ids=str)
@pytest.mark.parametrize("resets", [(0,), (0, 1, 2), (5,), (0, 3, 4, 11), ()], ids=str)
def test_both_modes_agree_with_resets_inside(resets, options):
    module, steps = make_module(**options), make_steps(*resets)
    wanted = step_through(module, steps)
    with set_recurrent_mode(True):
        at_once = module(steps.copy())
    torch.testing.assert_close(at_once["features"], wanted["features"], rtol=0, atol=1e-10)
    for state in STATES:
        torch.testing.assert_close(at_once["next", state][:, -1], wanted["next", state][:, -1], rtol=0, atol=1e-10)
        assert not at_once["next", state][:, :-1].any()


def test_both_modes_agree_in_gradients():
    module, steps = make_module(), make_steps(0, 4, 5)
    weights = torch.randn(6, dtype=torch.float64)

    def gradients(features):
        return torch.autograd.grad((features * weights).square().sum(), list(module.parameters()))

    wanted = gradients(step_through(module, steps)["features"])
    with set_recurrent_mode(True):
        at_once = gradients(module(steps.copy())["features"])
    for gradient, expected in zip(at_once, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


def test_nothing_passes_a_reset():
    module, steps = make_module(), make_steps(0, 5)
    steps["observation"].requires_grad_()
    with set_recurrent_mode(True):
        module(steps)["features"][0, 5:].sum().backward()
    gradient = steps["observation"].grad[0]
    assert not gradient[:5].any()
    assert gradient[5:].any(-1).all()


def test_a_row_continues_from_the_state_at_its_first_step():
    module, steps = make_module(), make_steps(0, 2, 9)
    wanted = step_through(module, steps)
    state = wanted[:, 4]["next"].select(*STATES)
    rest = steps[:, 5:].copy()
    rest.update({key: state[key][:, None].expand(-1, 7, *state[key].shape[1:]) for key in STATES})
    with set_recurrent_mode(True):
        torch.testing.assert_close(module(rest)["features"], wanted["features"][:, 5:], rtol=0, atol=1e-10)


def test_single_precision_and_any_batch_shape():
    module, steps = make_module(torch.float32), make_steps(0, 3, rows=4, dtype=torch.float32)
    wanted = step_through(module, steps)["features"]
    with set_recurrent_mode(True):
        torch.testing.assert_close(module(steps.copy())["features"], wanted)
        torch.testing.assert_close(module(steps[0].copy())["features"], wanted[0])
        torch.testing.assert_close(module(steps.reshape(2, 2, 12).copy())["features"], wanted.reshape(2, 2, 12, 6))
    alone = module(steps[0, 0].copy())
    torch.testing.assert_close(alone["features"], wanted[0, 0])
    assert alone["next", "recurrent_state_ssm"].shape == (2, 12, 3)


def test_the_mode_is_that_of_the_context_or_else_the_default():
    module = make_module(default_recurrent_mode=True)
    assert module.recurrent_mode
    with set_recurrent_mode(False):
        assert not module.recurrent_mode
    assert not make_module().recurrent_mode


def test_keys_are_those_of_torchrls_lstm():
    ours, theirs = make_module(), LSTMModule(3, 6, **KEYS)
    assert ours.in_keys == ["observation", *STATES, "is_init"]
    assert ours.out_keys == ["features", *[("next", state) for state in STATES]]
    assert (ours.in_keys[0], ours.in_keys[-1], ours.out_keys[0]) == (theirs.in_keys[0], theirs.in_keys[-1], "features")
    named = {"in_keys": ["a", ("b", "c"), ("b", "s")], "out_keys": ["x", ("next", "b", "c"), ("next", "b", "s")]}
    module = MambaModule(3, 6, **named)
    assert module.in_keys[-1] == "is_init"
    assert set(module.make_tensordict_primer().primers.keys(True, True)) == {("b", "c"), ("b", "s")}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"out_key": "x"}, "in_key=None, in_keys=None: give one"),
        ({**KEYS, "in_keys": ["a", "b", "c"]}, "in_key=observation, in_keys=.*: give one"),
        ({"in_key": "a", "out_keys": ["x", ("next", "b")]}, "two states each"),
    ],
)
def test_bad_keys_are_one_line(keys, message):
    with pytest.raises(UsageError, match=message):
        MambaModule(3, 6, **keys)


def test_bad_input_is_one_line():
    module, step = make_module(), make_steps(0)[0, 0]
    with pytest.raises(UsageError, match="no 'is_init': append"):
        module(step.exclude("is_init"))
    with pytest.raises(UsageError, match="this tensordict has none"), set_recurrent_mode(True):
        module(step)
    kept = MambaModule(3, 6, in_key="observation", out_keys=["x", "conv", "ssm"])
    with pytest.raises(UsageError, match="carries a state"):
        kept.make_tensordict_primer()


def make_policy(observation_size, num_actions):
    memory = MambaModule(observation_size, 16, d_state=4, **KEYS)
    logits = TensorDictModule(nn.Linear(16, num_actions), ["features"], ["logits"])
    body = TensorDictSequential(memory, logits)
    return ProbabilisticActor(body, ["logits"], distribution_class=OneHotCategorical, return_log_prob=True)


def test_collector_ppo_and_gae():
    torch.manual_seed(0)
    actor = make_policy(4, 2)
    value = TensorDictModule(nn.Linear(16, 1), ["features"], ["state_value"])
    critic = TensorDictSequential(MambaModule(4, 16, d_state=4, in_key="observation", out_key="features"), value)
    env = SerialEnv(2, lambda: GymEnv("CartPole-v1"))
    env.set_seed(0)
    collector = Collector(env, actor, frames_per_batch=160, total_frames=320, auto_register_policy_transforms=True)
    loss = ClipPPOLoss(actor, critic)
    estimator = GAE(gamma=0.99, lmbda=0.95, value_network=critic, shifted=True)
    slow_estimator = GAE(gamma=0.99, lmbda=0.95, value_network=critic, deactivate_vmap=True)
    for steps in collector:  # the second batch begins in the middle of episodes
        assert steps["is_init"][:, 1:].any()
        with torch.no_grad(), set_recurrent_mode(True):
            log_prob = actor.get_dist(steps.copy()).log_prob(steps["action"])
            slow = slow_estimator(steps.copy())
            estimator(steps)
        torch.testing.assert_close(log_prob, steps["action_log_prob"], rtol=0, atol=1e-5)
        torch.testing.assert_close(slow["state_value"], steps["state_value"], rtol=0, atol=1e-5)
        terms = loss(steps)
        torch.testing.assert_close(terms["kl_approx"].abs().max(), torch.tensor(0.0), rtol=0, atol=1e-5)
        loss.zero_grad()
        sum(term for name, term in terms.items() if name.startswith("loss_")).backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in loss.parameters())
    collector.shutdown()


def test_specs_and_resets_of_an_environment():
    policy = make_policy(4, 2)
    env = TransformedEnv(GymEnv("CartPole-v1"), InitTracker())
    env = env.append_transform(get_primers_from_module(policy))
    check_env_specs(env)
    assert env.observation_spec["recurrent_state_ssm"].shape == (1, 32, 4)
    steps = env.rollout(60, policy, break_when_any_done=False)
    empty = (steps["recurrent_state_ssm"] == 0).flatten(1).all(-1)
    assert torch.equal(empty, steps["is_init"][:, 0])
    assert empty.sum() > 1
