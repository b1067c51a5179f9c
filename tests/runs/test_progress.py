"""Health: ages by hand, speed by a clock of our own, entropy and value error of every objective."""

from __future__ import annotations

import mmap

import pytest
import torch
from tensordict import TensorDict

from tests.support.trained import OBJECTIVES, Trained
from torchrl_glam.data import make_replay
from torchrl_glam.runs.progress import GIB, Health, replay_age
from torchrl_glam.training.metrics import add_missing, policy_entropy


def records(number: int, num_envs: int = 1) -> TensorDict:
    shape = [num_envs, number] if num_envs > 1 else [number]
    flags = torch.zeros(*shape, 1, dtype=torch.bool)
    return TensorDict(
        {
            "pixels": torch.zeros(*shape, 4, 8, 3, dtype=torch.uint8),
            "action": torch.zeros(*shape, 2),
            "next": {"reward": torch.zeros(*shape, 1), "terminated": flags, "done": flags, "life_loss": flags},
        },
        shape,
    )


@pytest.mark.parametrize("written", [6, 9, 10, 11, 20, 27])
def test_the_age_of_a_record_is_the_number_written_since(written):
    replay, contexts = make_replay(10, sequences=(3, 5), contexts=(4, 2))
    ages = []
    for _ in range(written):
        replay.extend(records(1))
        ages = [*(age + 1 for age in ages), 0][-10:]  # of the records held, oldest first
    held = len(ages)
    assert held == len(replay)
    places = torch.arange(held) if written <= 10 else (torch.arange(held) + written) % 10  # oldest first
    for place, age in zip(places.tolist(), ages, strict=True):
        assert replay_age(TensorDict({"index": torch.tensor([[place]])}), replay) == age
    for buffer in (replay, contexts):
        batch = buffer.sample()
        wanted = torch.tensor(ages)[(batch["index"][..., None] == places).long().argmax(-1)]
        torch.testing.assert_close(replay_age(batch, replay), wanted.float().mean())


def test_the_newest_windows_are_young():
    replay, _ = make_replay(100, sequences=(2, 5), newest=2)
    replay.extend(records(250))
    # Windows that end with the newest record, and with the one before it.
    assert replay_age(replay.sample(), replay) == (2 + 3) / 2


def test_records_of_several_environments_count_one_each():
    replay, _ = make_replay(10, sequences=(2, 5), num_envs=2)
    replay.extend(records(8, num_envs=2))  # 16 records, of which 10 are held; each window is one environment's
    assert 4 <= replay_age(replay.sample(), replay) <= 5
    assert replay_age(TensorDict({"index": torch.arange(10)[None]}), replay) == 4.5


def test_steps_per_second_are_those_since_the_last_call():
    times = iter([10.0, 12.0, 12.5, 12.5])
    health = Health(torch.device("cpu"), clock=lambda: next(times))
    assert "system/steps_per_second" not in health(100)
    assert health(200)["system/steps_per_second"] == 50
    assert health(300)["system/steps_per_second"] == 200
    assert "system/steps_per_second" not in health(400)  # no time has passed


def test_memory_is_what_is_resident_now():
    health = Health(torch.device("cpu"))
    before = health(1)["system/memory_gib"]
    with mmap.mmap(-1, 2**28) as block:  # from the system: memory that was freed before may be used again
        for page in range(0, 2**28, mmap.PAGESIZE):
            block[page] = 1
        held = health(2)["system/memory_gib"]
    assert held - before == pytest.approx(2**28 / GIB, rel=0.1)
    assert health(3)["system/memory_gib"] < held - 0.2
    assert "system/gpu_memory_gib" not in health(4)


@pytest.mark.gpu
def test_gpu_memory_is_the_peak():
    health = Health(torch.device("cuda"))
    before = health(1)["system/gpu_memory_gib"]
    block = torch.ones(2**28, dtype=torch.uint8, device="cuda")
    del block
    assert health(2)["system/gpu_memory_gib"] >= max(before, 0.25)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_reports_entropy_and_value_error(objective):
    trained = Trained(f"objective={objective}")
    metrics = trained.update()
    most = torch.tensor(3.0).log()  # of three actions
    assert 0.8 * most < metrics["entropy"] < 1.15 * most  # untrained, and in part estimated from 32 actions
    assert 0 <= metrics["value_error"] < 0.2  # of rewards up to 1, by an untrained critic
    assert not metrics["entropy"].requires_grad
    assert not metrics["value_error"].requires_grad


@pytest.mark.parametrize("objective", ["glam", "dreamer_v3"])
def test_entropy_is_reported_where_it_is_no_part_of_the_loss(objective):
    metrics = Trained(f"objective={objective}", "agent.entropy_coeff=0").update()
    assert 0.8 < metrics["entropy"] < 1.3


def test_entropy_of_continuous_actions():
    metrics = Trained("env.name=tests.support.games:SteerBall-v0", "objective=reinforce").update()
    assert -5 < metrics["entropy"] < 5


@pytest.mark.parametrize("objective", ["a2c", "dreamer_v3"])
def test_the_value_error_is_how_far_the_critic_is_from_its_target(objective):
    # With next to no discount the target is the reward, which an untrained head takes for 0.
    trained = Trained(f"objective={objective}", "agent.gamma=1e-6")
    output = [module for module in trained.critic.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():  # its weights are 0: one value everywhere
        output.bias[131 if len(output.bias) > 1 else 0] = 10.0
    value = trained.critic(TensorDict({"state": torch.zeros(1, 64), "belief": torch.zeros(1, 16)}, [1]))["state_value"]
    assert value.item() > 0.5
    torch.testing.assert_close(trained.update()["value_error"], value.squeeze(), rtol=1e-3, atol=1e-3)


def test_what_a_loss_reports_itself_is_kept():
    terms = TensorDict({"entropy": torch.tensor(1.0)})
    kept = add_missing(terms, {"entropy": torch.tensor(2.0), "value_error": torch.tensor(3.0)})
    assert {name: value.item() for name, value in kept.items()} == {"entropy": 1.0, "value_error": 3.0}


def test_an_actor_without_log_probabilities_has_no_entropy():
    assert policy_entropy(TensorDict({"action": torch.zeros(2, 3, 4)}, [2, 3])) == {}
