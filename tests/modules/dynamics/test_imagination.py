"""Every backbone inside the imagined environment: specs, start, steps, and one compiled graph of a step."""

from __future__ import annotations

import pytest
import torch
from torchrl.data import OneHot
from torchrl.envs.utils import check_env_specs

from tests.support.backbones import BACKBONES, MAX_LENGTH
from tests.support.updates import assert_close_in_norm
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import make_actor

BATCH, CONTEXT, HORIZON = 3, 5, 7
COMPILED = ["lmamba", "two mambas", "transformer 2", "two transformers"]  # glam: tests/machine/test_compilation.py

every_backbone = pytest.mark.parametrize("name", BACKBONES)


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    yield
    torch.compiler.reset()


@pytest.fixture
def imagine(make_world_model, make_batch, shake):
    """A function that imagines with a backbone; it returns the world model, real states and the rollout."""

    def run(name, horizon=HORIZON, compiled=False):
        torch.manual_seed(0)
        world_model = make_world_model(BACKBONES[name](8))
        contexts = make_batch(BATCH, CONTEXT)
        actor = shake(make_actor(world_model.state_size, 8, OneHot(3), hidden=8), 1.0)
        env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=BATCH, compiled=compiled)
        with torch.no_grad():
            torch.manual_seed(1)
            real = world_model.encode(contexts["pixels"])
            torch.manual_seed(1)
            rollout = env.imagine(env.start(contexts["pixels"], contexts["action"]), actor, horizon)
        states = torch.cat([real, rollout["state"]], 1)
        return world_model, states, torch.cat([contexts["action"], rollout["action"]], 1), rollout

    return run


@every_backbone
def test_torchrl_accepts_the_specs(make_world_model, name):
    with torch.no_grad():
        check_env_specs(GLAMImaginedEnv(make_world_model(BACKBONES[name](8)), OneHot(3), batch_size=BATCH))


@every_backbone
def test_beliefs_of_imagination_are_those_of_one_forward_pass(imagine, name):
    """To the last slot of a Transformer's memory."""
    assert CONTEXT + HORIZON == MAX_LENGTH
    world_model, states, actions, rollout = imagine(name)
    with torch.no_grad():
        beliefs, _ = world_model.dynamics(world_model.embedding(states, actions))
    assert_close_in_norm(rollout["next", "belief"], beliefs[:, CONTEXT:], 2e-4, "belief")  # float32: 1e-4 was seen


@every_backbone
def test_starts_within_a_batch(make_world_model, make_batch, name):
    """Memories of different lengths side by side go on as their own sequences do."""
    torch.manual_seed(0)
    world_model, batch = make_world_model(BACKBONES[name](8)), make_batch(2, 7)
    env = GLAMImaginedEnv(world_model, OneHot(3), batch_size=12)
    action = batch["action"][:1].expand(12, -1, -1)[:, 0]
    with torch.no_grad():
        state = world_model.encode(batch["pixels"])
        starts = env.start_within(state, batch["action"], number=12)
        reset = env.reset(starts.clone())
        beliefs = env.step(reset.set("action", action))["next", "belief"]
        wanted = []
        for row in (0, 1):
            for t in range(6):
                states = state[row : row + 1, : t + 2]
                actions = torch.cat([batch["action"][row : row + 1, : t + 1], action[:1, None]], 1)
                wanted.append(world_model.dynamics(world_model.embedding(states, actions))[0][0, -1])
    distances = torch.cdist(beliefs, torch.stack(wanted))
    assert sorted(distances.argmin(1).tolist()) == list(range(12))
    assert distances.amin(1).max() < 1e-4


def test_a_horizon_beyond_a_transformers_memory_is_an_error(imagine):
    with pytest.raises(RuntimeError, match="remembers max_length=12 tokens, no more"):
        imagine("transformer", HORIZON + 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_one_compiled_graph_of_a_step(imagine, name):
    eager, compiled = imagine(name)[-1], imagine(name, compiled=True)[-1]
    for key in ("state", "action", ("next", "terminated")):
        assert torch.equal(eager[key], compiled[key]), key
    for key in ("belief", ("next", "belief"), ("next", "reward")):
        assert_close_in_norm(compiled[key], eager[key], 1e-5, str(key))


@pytest.mark.slow
def test_a_compiled_horizon_beyond_a_transformers_memory_is_an_error(imagine):
    with pytest.raises(RuntimeError, match="remembers max_length=12 tokens, no more"):
        imagine("transformer", HORIZON + 1, compiled=True)
