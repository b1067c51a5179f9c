"""Training on a CUDA device: pytest -m gpu. (The scan alone: tests/modules/ssm/test_gpu.py.)"""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from torchrl.data import OneHot

from tests.examples.test_glam_atari import run_example
from tests.support.trained import OBJECTIVES, Trained
from tests.support.updates import assert_close_in_norm, make_agent, make_agent_update, make_model_update
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import GLAMDynamics

pytestmark = pytest.mark.gpu


@pytest.fixture
def world_model(make_world_model):
    """A world model on the CPU, to be moved or copied."""
    torch.manual_seed(0)
    return make_world_model(GLAMDynamics(16))


@pytest.fixture(autouse=True)
def _full_precision():
    """No TF32 in convolutions either: comparisons with a CPU are to tell of mistakes."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
    torch.compiler.reset()


@pytest.mark.parametrize("starts", ["replay", "batch"])
def test_a_compiled_debug_run_in_bfloat16(tmp_path, starts):
    options = ["device=cuda", "training.compile=true", "training.precision=bfloat16", f"imagination.starts={starts}"]
    process = run_example("preset=debug", *options, f"run_dir={tmp_path / 'run'}")
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["protocol"] == "glam"
    for name in ("world_model/loss_reconstruction", "policy/loss_critic"):
        assert "nan" not in (tmp_path / "run" / f"metrics/scalars/{name}.csv").read_text()


@pytest.mark.parametrize("game", ["CatchBall", "SteerBall"])
@pytest.mark.parametrize("dynamics", ["glam", "storm", "double_mamba"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("compiled", [False, True])
def test_every_objective_trains(objective, dynamics, game, compiled):
    if (objective, game) == ("discrete_sac", "SteerBall"):
        pytest.skip("discrete SAC wants discrete actions")
    choices = [f"objective={objective}", f"dynamics={dynamics}", f"env.name=tests.support.games:{game}-v0"]
    trained = Trained(*choices, f"training.compile={compiled}", device=torch.device("cuda"))
    for _ in range(4):  # plain, captured, replayed
        metrics = trained.update()
    assert all(value.isfinite().all() and value.device.type == "cuda" for value in metrics.values())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_captured_imagination_is_the_plain_one(world_model, make_batch, shake, precision):
    """At two horizons, by turns, and after a step of the optimizer: a graph must read the weights as they are."""
    world_model, batch = world_model.cuda(), make_batch(4, 5).to("cuda")
    actor, _ = make_agent(world_model, shake)
    envs = [GLAMImaginedEnv(world_model, OneHot(3), batch_size=4, compiled=value) for value in (False, True)]
    tolerance = 1e-4 if precision == torch.float32 else 0.1
    with torch.no_grad():
        for number, horizon in enumerate([3, 3, 3, 5, 5, 3, 5]):  # as it is, captured, replayed
            rollouts = []
            with torch.autocast("cuda", dtype=precision, enabled=precision != torch.float32):
                torch.manual_seed(number)
                start = envs[0].start(batch["pixels"], batch["action"])
                for env in envs:
                    torch.manual_seed(number)
                    rollouts.append(env.imagine(start, actor, horizon))
            plain, captured = rollouts
            assert captured.shape == (4, horizon)
            first = (slice(None), 0)  # rounding may turn a later sample into another one
            for key in ("action_log_prob", ("next", "belief")):
                assert_close_in_norm(captured[key][first], plain[key][first], tolerance, f"call {number}, {key}")
            if precision == torch.float32:
                assert torch.equal(captured["state"], plain["state"])
                assert torch.equal(captured["action"], plain["action"])
                assert_close_in_norm(captured["next", "reward"], plain["next", "reward"], 1e-3, "reward")
            for parameter in actor.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_the_world_model_update_is_that_of_a_cpu(world_model, make_batch, monkeypatch):
    drawn = torch.nn.functional.one_hot(torch.randint(4, (3, 12, 3)), 4)  # generators of devices differ

    def straight_through(logits):
        p = logits.softmax(-1)
        return drawn.to(p) + (p - p.detach())

    monkeypatch.setattr("torchrl_glam.modules.world_model.sample_one_hot", straight_through)
    models, metrics = [copy.deepcopy(world_model), copy.deepcopy(world_model).cuda()], []
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        _, update = make_model_update(model)
        metrics.append(update(make_batch(3, 12).to(device))[0].cpu())
    for key, value in metrics[0].items():
        assert_close_in_norm(metrics[1][key], value, 1e-3, key)
    moved = models[1].cpu().state_dict()
    for name, value in models[0].state_dict().items():
        assert_close_in_norm(moved[name], value, 1e-3, name)


def test_updates_do_not_wait_for_the_device(world_model, make_batch, shake):
    world_model, batch = world_model.cuda(), make_batch(4, 12).to("cuda")
    actor, critic = make_agent(world_model, shake)
    _, update_world_model = make_model_update(world_model)
    env, *_, update_policy = make_agent_update(world_model, actor, critic)

    def step():
        _, latents = update_world_model(batch)
        update_policy(batch, 4)
        with torch.no_grad():
            starts = env.start_within(latents["state"], latents["action"], number=8, first=3)
            env.imagine(starts, actor, 4)

    step()  # kernels are loaded and compiled
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype", UserWarning)
            torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
