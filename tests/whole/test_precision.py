"""bfloat16 under autocast against float64: what is close, and what stays float32.

bfloat16 has 8 significant bits: a value is off by 1/256 of itself at most, and one layer by about that of its greatest
value. Tolerances are parts of the greatest value.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchrl.data import OneHot

from tests.support.updates import assert_close_in_norm, make_agent, make_agent_update, make_model_update
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics, make_actor
from torchrl_glam.modules import world_model as world_model_module
from torchrl_glam.objectives import GLAMModelLoss

BFLOAT16 = torch.bfloat16
BATCH, TIME = 4, 12
THROUGH_THE_BACKBONE = 0.1


def reduced():
    return torch.autocast("cpu", dtype=BFLOAT16)


@pytest.fixture
def world_model(make_world_model):
    """A world model with two layers in either branch."""
    torch.manual_seed(0)
    return make_world_model(GLAMDynamics(32, global_layers=2, local_layers=2), channels=(8, 16))


@pytest.fixture
def _same_latents(monkeypatch):
    """Latents that do not depend on the precision: rounding may turn a sample into another one."""
    generator = torch.Generator().manual_seed(3)
    drawn = nn.functional.one_hot(torch.randint(4, (BATCH, TIME, 3), generator=generator), 4)

    def straight_through(logits):
        p = logits.softmax(-1)
        return drawn.to(p.dtype) + (p - p.detach())

    monkeypatch.setattr(world_model_module, "sample_one_hot", straight_through)


@pytest.mark.usefixtures("_same_latents")
def test_world_model_and_its_loss(world_model, make_batch):
    batch = make_batch(BATCH, TIME)
    exact = copy.deepcopy(world_model).double()
    exact.encoder.convolutions.register_forward_pre_hook(lambda _, frames: frames[0].double())
    with torch.no_grad():
        wanted = exact(batch.select("pixels", "action").clone())
        wanted_terms = GLAMModelLoss(exact)(batch.clone())
        with reduced():
            got = world_model(batch.select("pixels", "action").clone())
            terms = GLAMModelLoss(world_model)(batch.clone())
    for key in ("posterior_logits", "prior_logits", "state"):
        assert got[key].dtype == torch.float32, key
    for key in ("belief", "variation", "prior_logits", "reward_logits", "termination_logits"):
        assert_close_in_norm(got[key], wanted[key], THROUGH_THE_BACKBONE, key)
    for key in ("posterior_logits", "reconstruction"):
        assert_close_in_norm(got[key], wanted[key], 0.02, key)
    for key, value in terms.items():
        assert value.dtype == torch.float32, key
        assert value.item() == pytest.approx(wanted_terms[key].item(), rel=0.02), key


def test_imagination(world_model, make_batch, shake):
    batch = make_batch(BATCH, 5)
    actor = shake(make_actor(world_model.state_size, 32, OneHot(3), hidden=8), 0.5)
    env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=BATCH)
    exact, exact_actor = copy.deepcopy(world_model).double(), copy.deepcopy(actor).double()
    with torch.no_grad(), reduced():
        torch.manual_seed(1)
        real = world_model.encode(batch["pixels"])
        torch.manual_seed(1)
        rollout = env.imagine(env.start(batch["pixels"], batch["action"]), actor, 8)
    for key in ("state", "logits", "action_log_prob", ("next", "reward")):
        assert rollout[key].dtype == torch.float32, key
    with torch.no_grad():
        state, action = torch.cat([real, rollout["state"]], 1).double(), [batch["action"], rollout["action"]]
        beliefs, _ = exact.dynamics(exact.embedding(state, torch.cat(action, 1)))
        reward, _, _ = exact.predict_outcome(beliefs)
        seen = rollout.select("state", "action").double().set("belief", beliefs[:, 4:-1])
        log_prob = exact_actor.log_prob(seen.set("action", rollout["action"]))
    assert_close_in_norm(rollout["next", "belief"], beliefs[:, 5:], THROUGH_THE_BACKBONE, "belief")
    assert_close_in_norm(rollout["action_log_prob"], log_prob, THROUGH_THE_BACKBONE, "action_log_prob")
    # Exponential in what the head says: compared as it says it.
    symlog = [value.sign() * value.abs().log1p() for value in (rollout["next", "reward"], reward[:, 5:])]
    assert_close_in_norm(*symlog, THROUGH_THE_BACKBONE, "reward")


def dtypes(memory):
    return {key: value.dtype for key, value in memory.items(True, True)}


@pytest.mark.parametrize("length", [1, 5])
def test_memory_keeps_its_dtypes(world_model, make_batch, length):
    """So that an environment's specs hold, and a compiled step is compiled once."""
    dynamics, tokens = world_model.dynamics, torch.randn(2, length, 32)
    wanted = dtypes(dynamics.initial_memory(2))
    with torch.no_grad(), reduced():
        reduced_tokens = tokens.to(BFLOAT16)
        before = dynamics(reduced_tokens)[1], dynamics.prefill(reduced_tokens)[1], dynamics.initial_memory(2)
        for memory in before:
            assert dtypes(memory) == wanted
            assert dtypes(dynamics.step(reduced_tokens[:, 0], memory)[1]) == wanted


def cosine(left, right):
    left, right = (torch.cat([value.flatten().double() for value in values]) for values in (left, right))
    return (left @ right / (left.norm() * right.norm())).item()


@pytest.mark.usefixtures("_same_latents")
def test_world_model_update(world_model, make_batch):
    gradients, metrics = [], []
    for precision in (torch.float32, BFLOAT16):
        loss, update = make_model_update(copy.deepcopy(world_model), precision=precision)
        metrics.append(update(make_batch(BATCH, TIME))[0])
        assert all(parameter.dtype == torch.float32 for parameter in loss.parameters())
        gradients.append([parameter.grad for parameter in loss.parameters()])
    for key, value in metrics[1].items():
        assert value.dtype == torch.float32, key
        assert value.item() == pytest.approx(metrics[0][key].item(), rel=0.05), key
    assert cosine(*gradients) > 0.99
    assert all(gradient.any() for gradient in gradients[1])


def test_policy_update(world_model, make_batch, shake):
    """Autocast keeps its casts of weights, also those made without gradients: here they must not stop any."""
    torch.manual_seed(0)
    actor, critic = make_agent(world_model, shake)
    _, actor_loss, critic_loss, update = make_agent_update(world_model, actor, critic, precision=BFLOAT16)
    seen = {}
    critic_loss.register_forward_pre_hook(lambda _, inputs: seen.update(rollout=inputs[0].clone()))
    old = copy.deepcopy((actor_loss, critic_loss))
    metrics = update(make_batch(BATCH, 5), 8)
    for key, value in metrics.items():
        assert value.dtype == torch.float32, key
    rollout = seen["rollout"]
    for key in ("action_log_prob", "value_target", "slow_value_target", "advantage", ("next", "reward")):
        assert rollout[key].dtype == torch.float32, key
    gradients = [parameter.grad for module in (actor, critic) for parameter in module.parameters()]
    assert all(gradient.any() for gradient in gradients)

    # The same losses in float64 on the same rollout.
    exact = [loss.double() for loss in old]
    exact[0].advantage_norm.update(rollout["value_target"])
    doubled = rollout.apply(lambda value: value.double() if value.is_floating_point() else value)
    terms = exact[0](doubled).update(exact[1](doubled))
    for key, value in terms.items():
        assert metrics[key].item() == pytest.approx(value.item(), rel=0.05), key
    sum(value for key, value in terms.items() if key.startswith("loss_")).backward()
    networks = (actor, exact[0].actor_network_params), (critic, exact[1].critic_network_params)
    for network, params in networks:
        wanted = params.flatten_keys(".")
        pairs = [(value.grad, wanted[name].grad) for name, value in network.named_parameters()]
        assert cosine(*zip(*pairs, strict=True)) > 0.99
