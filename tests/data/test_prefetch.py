"""Where the ring lies, and batches gathered by a worker: bit for bit the unprefetched ones."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from torchrl_glam.data import Prefetcher, make_replay, record_bytes, ring_device
from torchrl_glam.data.replay import OTHERS
from torchrl_glam.envs import make_atari_env
from torchrl_glam.errors import UsageError

KEYS = ("pixels", *OTHERS)
CAPACITY = 60
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not prefetch_threads()


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def records(number: int, start: int = 0) -> TensorDict:
    """Records whose reward is their number in time."""
    generator = torch.Generator().manual_seed(start)
    flags = torch.rand(number, 1, generator=generator) < 0.1
    reward = torch.arange(start, start + number, dtype=torch.float32)[:, None]
    pixels = torch.randint(0, 256, (number, 8, 8, 3), dtype=torch.uint8, generator=generator)
    after = {"reward": reward, "terminated": flags, "done": flags, "life_loss": flags}
    return TensorDict({"pixels": pixels, "action": torch.eye(4)[torch.arange(number) % 4], "next": after}, [number])


def make_views(**options: Any) -> tuple[Any, Any]:
    return make_replay(CAPACITY, sequences=(3, 8), contexts=(16, 4), newest=2, **options)


def assert_same(batch: TensorDictBase, expected: TensorDictBase) -> None:
    assert set(batch.keys(True, True)) == set(expected.keys(True, True)) == {*KEYS, "index"}
    assert batch.shape == expected.shape
    for key, value in expected.items(True, True):
        assert batch[key].dtype == value.dtype, key
        assert torch.equal(batch[key].cpu(), value.cpu()), key


def run(threaded: bool, seconds: float = 0.0, device: torch.device = CPU, **options: Any) -> list[TensorDictBase]:
    """Batches of contexts, drawn before other work that takes random numbers, while the ring fills up and wraps."""
    sequences, contexts = make_views(**options)
    clock = random.Random(0)
    prefetched = Prefetcher(contexts, device, threaded=threaded)
    get = contexts.storage.get

    def slow_get(index: Any) -> Any:
        time.sleep(clock.uniform(0, seconds))
        return get(index)

    contexts.storage.get = slow_get
    sequences.extend(records(20))
    torch.manual_seed(0)
    batches = []
    for start in range(20, 200, 7):
        sequences.extend(records(7, start))
        prefetched.draw()
        torch.randn(5)
        batches += [sequences.sample(), prefetched.sample()]
    prefetched.shutdown()
    return batches


@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_a_thread_changes_no_bit(seconds: float) -> None:
    for batch, expected in zip(run(True, seconds), run(False), strict=True):
        assert_same(batch, expected)


def test_a_batch_is_what_the_view_itself_samples() -> None:
    sequences, contexts = make_views()
    sequences.extend(records(40))
    prefetched = Prefetcher(contexts, "cpu", threaded=True)
    torch.manual_seed(0)
    expected = contexts.sample()
    torch.manual_seed(0)
    assert_same(prefetched.sample(), expected)
    torch.manual_seed(0)
    prefetched.draw()
    torch.manual_seed(1)
    assert_same(prefetched.sample(), expected)
    prefetched.shutdown()


def test_gathering_goes_on_beside_the_caller_who_draws() -> None:
    sequences, contexts = make_views()
    sequences.extend(records(40))
    prefetched = Prefetcher(contexts, "cpu", threaded=True)
    get, draw = contexts.storage.get, contexts.sampler.sample
    begun, caller_works, threads = threading.Event(), threading.Event(), []

    def wait_for_caller(index: Any) -> Any:
        threads.append(threading.current_thread().name)
        begun.set()
        assert caller_works.wait(10)
        return get(index)

    def note_thread(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return draw(*args)

    contexts.storage.get, contexts.sampler.sample = wait_for_caller, note_thread
    prefetched.draw()
    assert begun.wait(10), "the gather is under way before the batch is asked for"
    caller_works.set()
    prefetched.sample()
    assert threads == [threading.current_thread().name, "prefetch_0"]
    prefetched.shutdown()


def test_the_workers_error_surfaces_and_the_next_batch_comes() -> None:
    sequences, contexts = make_views()
    sequences.extend(records(40))
    prefetched = Prefetcher(contexts, "cpu", threaded=True)
    get = contexts.storage.get

    def break_down(index: Any) -> Any:
        raise OSError("no memory left")

    contexts.storage.get = break_down
    prefetched.draw()
    with pytest.raises(OSError, match="no memory left") as error:
        prefetched.sample()
    assert "break_down" in "".join(traceback.format_tb(error.value.__traceback__))
    contexts.storage.get = get
    assert prefetched.sample().shape == torch.Size([16, 4])
    prefetched.shutdown()


@pytest.mark.parametrize("threaded", [False, True])
def test_misuse_is_refused(threaded: bool) -> None:
    sequences, contexts = make_views()
    prefetched = Prefetcher(contexts, "cpu", threaded=threaded)
    with pytest.raises(ValueError, match="the replay holds 0 records"):
        prefetched.draw()
    sequences.extend(records(40))
    prefetched.draw()
    with pytest.raises(RuntimeError, match="draw\\(\\) was called twice"):
        prefetched.draw()
    sequences.extend(records(1))
    with pytest.raises(RuntimeError, match="records were written between"):
        prefetched.sample()
    assert prefetched.sample().shape == torch.Size([16, 4])
    prefetched.shutdown()


def test_a_prefetcher_that_is_dropped_ends_its_thread() -> None:
    sequences, contexts = make_views()
    sequences.extend(records(40))
    prefetched = Prefetcher(contexts, "cpu", threaded=True)
    prefetched.draw()
    threads = prefetch_threads()
    assert len(threads) == 1
    del prefetched
    threads[0].join(10)


def test_the_ring_lies_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    assert ring_device("auto", CUDA, 500) == CUDA
    assert ring_device("auto", CUDA, 501) == CPU
    assert ring_device("device", CUDA, 501) == CUDA
    assert ring_device("host", CUDA, 1) == CPU
    for place in ("auto", "device", "host"):
        assert ring_device(place, CPU, 10**15) == CPU
    with pytest.raises(UsageError, match=r"replay\.device=gpu: choose one of auto, device, host"):
        ring_device("gpu", CPU, 1)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_record_bytes_are_those_of_the_ring(num_envs: int) -> None:
    env = make_atari_env("tests.support.games:CatchBall-v0", num_envs=num_envs)
    sequences, _ = make_replay(10, num_envs=num_envs)
    sequences.extend(env.rollout(5))
    assert record_bytes(env) * 10 == sequences.storage._storage.bytes()


def test_windows_of_several_environments_are_prefetched() -> None:
    sequences, contexts = make_views(num_envs=2)
    sequences.extend(torch.stack([records(30), records(30, 1000)]))
    prefetched = Prefetcher(contexts, "cpu", threaded=True)
    torch.manual_seed(0)
    expected = contexts.sample()
    torch.manual_seed(0)
    assert_same(prefetched.sample(), expected)
    assert (expected["next", "reward"].squeeze(-1).diff(dim=1) == 1).all()
    prefetched.shutdown()


@pytest.mark.gpu
def test_the_rings_place_changes_no_bit() -> None:
    """On the device, in main memory with a worker, in main memory without: the same windows, on the device."""
    expected = run(False, device=CPU)
    for threaded, options in ((False, {"device": "cuda"}), (True, {"pin_memory": True}), (False, {"pin_memory": True})):
        batches = run(threaded, device=CUDA, **options)
        for number, (batch, other) in enumerate(zip(batches, expected, strict=True)):
            assert_same(batch, other)
            if number % 2:
                assert {value.device.type for value in batch.values(True, True)} == {"cuda"}


@pytest.mark.gpu
def test_samples_of_a_pinned_ring_are_pinned() -> None:
    sequences, contexts = make_views(pin_memory=True)
    sequences.extend(records(40))
    for view in (sequences, contexts):
        sample = view.sample()
        assert all(sample[key].is_pinned() for key in KEYS)
