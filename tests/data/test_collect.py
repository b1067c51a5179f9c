"""The collector that steps the emulator beside the caller's work: same records, whatever the timing."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, SerialEnv

from torchrl_glam.data import OverlappedCollector
from torchrl_glam.envs import make_atari_env
from torchrl_glam.modules import GLAMPolicy, GLAMWorldModel, make_actor

FRAMES, RANDOM_FRAMES = 150, 20  # an episode of CatchBall takes 60 steps


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not emulator_threads()


def emulator_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("emulator")]


def make_env(seed: int = 3) -> EnvBase:
    return make_atari_env("tests.support.games:CatchBall-v0", seed=seed, image_size=8)


def make_policy(world_model: GLAMWorldModel, env: EnvBase) -> GLAMPolicy:
    torch.manual_seed(0)
    sizes = (world_model.state_size, world_model.dynamics.width)
    actor = make_actor(*sizes, env.action_spec, hidden=8, num_layers=1)
    return GLAMPolicy(world_model, actor, env.action_spec, context_length=4)


def constant_policy(env: EnvBase) -> TensorDictModule:
    return TensorDictModule(lambda pixels: env.action_spec.zero(), in_keys=["pixels"], out_keys=["action"])


def slowed(call: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """``call`` after a random while, by a generator that nothing else uses."""
    clock = random.Random(0)

    def slow(*args: Any) -> Any:
        time.sleep(clock.uniform(0, seconds))
        return call(*args)

    return slow


def assert_same(record: TensorDictBase, expected: TensorDictBase) -> None:
    assert set(record.keys(True, True)) == set(expected.keys(True, True))
    assert (record.shape, record.device) == (expected.shape, expected.device)
    for key, value in expected.items(True, True):
        assert (record[key].dtype, record[key].shape) == (value.dtype, value.shape), key
        assert torch.equal(record[key], value), key


@pytest.mark.parametrize("random_frames", [RANDOM_FRAMES, FRAMES])
def test_records_equal_the_plain_collectors(
    random_frames: int, make_world_model: Callable[..., GLAMWorldModel]
) -> None:
    streams = []
    for overlapped in (False, True):
        env = make_env()
        policy = make_policy(make_world_model(), env)
        if overlapped:
            collector: Any = OverlappedCollector(env, policy, total_frames=FRAMES, init_random_frames=random_frames)
        else:
            devices = dict.fromkeys(("policy_device", "env_device", "storing_device"), "cpu")
            frames = {"frames_per_batch": 1, "total_frames": FRAMES, "init_random_frames": random_frames}
            collector = Collector(env, policy, **frames, **devices, auto_register_policy_transforms=True)
        torch.manual_seed(1)
        streams.append(list(collector))
        collector.shutdown()
    plain, overlapping = streams
    assert len(plain) == len(overlapping) == FRAMES
    assert plain[-1]["collector", "traj_ids"].item() == 2, "resets took place"
    for record, expected in zip(overlapping, plain, strict=True):
        assert_same(record, expected)


def test_records_do_not_depend_on_timing(make_world_model: Callable[..., GLAMWorldModel]) -> None:
    def run(slow_env: float, slow_update: float) -> list[TensorDictBase]:
        env = make_env()
        world_model = make_world_model()
        collector = OverlappedCollector(
            env, make_policy(world_model, env), total_frames=100, init_random_frames=RANDOM_FRAMES
        )
        env.step_and_maybe_reset = slowed(env.step_and_maybe_reset, slow_env)

        def update() -> None:
            with torch.no_grad():
                for parameter in world_model.parameters():
                    parameter.add_(0.01 * torch.randn_like(parameter))

        update = slowed(update, slow_update)
        torch.manual_seed(1)
        records = []
        for record in collector:
            records.append(record)
            update()
        return records

    expected = run(0.0, 0.0)
    for sleeps in ((0.003, 0.0), (0.0, 0.003), (0.003, 0.003)):
        for record, other in zip(run(*sleeps), expected, strict=True):
            assert_same(record, other)


def test_actions_are_one_update_behind() -> None:
    env = make_atari_env("tests.support.games:CountingGame-v0", image_size=64)
    version = 0

    def act(pixels: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(version % 4), 4)

    policy = TensorDictModule(act, in_keys=["pixels"], out_keys=["action"])
    actions = []
    for record in OverlappedCollector(env, policy, total_frames=6):
        actions.append(record["action"].argmax().item())
        version += 1
    assert actions == [0, 0, 1, 2, 3, 0]


def test_the_emulator_steps_while_the_caller_works() -> None:
    env = make_env()
    collector = OverlappedCollector(env, constant_policy(env), total_frames=2)
    step, begun, caller_works, threads = env.step_and_maybe_reset, threading.Event(), threading.Event(), []

    def wait_for_caller(action: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        threads.append(threading.current_thread().name)
        if len(threads) == 2:
            begun.set()
            assert caller_works.wait(10)
        return step(action)

    env.step_and_maybe_reset = wait_for_caller
    steps = iter(collector)
    next(steps)
    assert begun.wait(10), "the second step is under way when the first one's record is there"
    caller_works.set()
    assert len(list(steps)) == 1
    assert threads == ["emulator_0"] * 2


def test_a_record_shares_nothing_with_the_next_step() -> None:
    env = make_env()
    for record in OverlappedCollector(env, constant_policy(env), total_frames=50):
        assert record["pixels"].any()
        record.zero_()


def test_the_emulators_error_surfaces_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env()
    steps = 0

    def break_down(action: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise OSError("the emulator broke down")
        return game_step(action)

    game = env.base_env._env.unwrapped
    game_step = game.step
    monkeypatch.setattr(game, "step", break_down)
    records: list[TensorDictBase] = []
    with pytest.raises(OSError, match="the emulator broke down") as error:
        records.extend(OverlappedCollector(env, constant_policy(env)))
    assert len(records) == 4, "all steps before it arrive"
    assert "break_down" in "".join(traceback.format_tb(error.value.__traceback__))
    assert not emulator_threads()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, FloatingPointError])
def test_the_thread_ends_when_the_caller_is_interrupted(interrupt: type[BaseException]) -> None:
    env = make_env()
    collector = OverlappedCollector(env, constant_policy(env))

    def work() -> None:
        for frame, _ in enumerate(collector):
            if frame == 3:
                raise interrupt

    with pytest.raises(interrupt):
        work()
    collector.shutdown()
    assert not emulator_threads()
    assert env.is_closed
    collector.shutdown()


def test_a_caller_that_stops_early_ends_the_thread() -> None:
    env = make_env()
    collector = OverlappedCollector(env, constant_policy(env))
    for record in collector:
        assert record.shape == torch.Size([1])
        break
    assert not emulator_threads()
    assert not env.is_closed


def test_batched_environments_are_refused() -> None:
    batched = SerialEnv(2, make_env)
    with pytest.raises(ValueError, match=r"batch size \[2\], overlapped collection wants a single one"):
        OverlappedCollector(batched, constant_policy(batched))
    batched.close(raise_if_closed=False)


@pytest.mark.gpu
def test_records_do_not_depend_on_the_policys_device(make_world_model: Callable[..., GLAMWorldModel]) -> None:
    env = make_env()
    world_model = make_world_model().cuda()
    sizes = (world_model.state_size, world_model.dynamics.width)
    actor = make_actor(*sizes, env.action_spec.to("cuda"), hidden=8, num_layers=1).cuda()
    policy = GLAMPolicy(world_model, actor, env.action_spec.to("cuda"), context_length=4)
    collector = OverlappedCollector(env, policy, total_frames=40, init_random_frames=20, policy_device="cuda")
    for record in collector:
        assert {value.device.type for value in record.values(True, True)} == {"cpu"}
        assert (record["action"].sum(-1) == 1).all()
