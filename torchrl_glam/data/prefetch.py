"""Where the replay lies, and batches that are gathered while other work runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import EnvBase

from torchrl_glam.data.replay import PackPixels, select_record
from torchrl_glam.errors import UsageError

PLACES = ("auto", "device", "host")


def ring_device(place: str, device: torch.device, num_bytes: int, *, share: float = 0.5) -> torch.device:
    """Return where a ring of ``num_bytes`` lies when the networks are on ``device``.

    Args:
        place: ``device``, ``host`` (main memory), or ``auto``: the device if the ring fits into a share of what is free
            there now, else main memory. On a CPU all are the same.
        device: the training device.
        num_bytes: capacity times :func:`record_bytes`.
        share: of the free memory; the networks want the rest.

    Raises:
        UsageError: if there is no such place.
    """
    if place not in PLACES:
        raise UsageError(f"replay.device={place}: choose one of {', '.join(PLACES)}")
    if device.type != "cuda" or place == "device":
        return device
    fits = place == "auto" and num_bytes <= share * torch.cuda.mem_get_info(device)[0]
    return device if fits else torch.device("cpu")


def record_bytes(env: EnvBase) -> int:
    """Return the bytes that the replay takes for one record of ``env``, or of one of its batch."""
    return select_record(env.fake_tensordict()).bytes() // env.batch_size.numel()


class Prefetcher:
    """Samples a view of the replay for ``device``, gathering in a worker thread while the caller does other work.

    Not torchrl's ``prefetch``: in 0.14.1 its threads draw the windows too (``ReplayBuffer.sample`` submits the whole
    ``_sample``, sampler included), from the same generator as the main thread's networks and from whatever the ring
    holds at that moment, so that two runs differ. Here the caller's thread draws, at the point where it calls
    :meth:`draw`; the worker only copies. The same calls give the same batches with and without a thread.

    Args:
        replay: one of the views that :func:`torchrl_glam.data.make_replay` returns, with ``pin_memory`` if its ring
            lies in main memory and ``device`` is a GPU.
        device: where the batches go.
        threaded: whether a worker gathers; worth it where the ring lies elsewhere than on ``device``.

    Examples:
        >>> from torchrl_glam.data import make_replay
        >>> from torchrl_glam.envs import make_atari_env
        >>> replay, contexts = make_replay(100, sequences=(2, 8), contexts=(4, 3))
        >>> indices = replay.extend(make_atari_env("ALE/Pong-v5").rollout(20))
        >>> contexts = Prefetcher(contexts, "cpu", threaded=True)
        >>> contexts.draw()
        >>> sequences = replay.sample()  # meanwhile the contexts are gathered
        >>> contexts.sample().shape
        torch.Size([4, 3])
        >>> contexts.shutdown()
    """

    def __init__(self, replay: TensorDictReplayBuffer, device: torch.device | str, *, threaded: bool) -> None:
        self._replay, self._device, self._unpack = replay, torch.device(device), PackPixels()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch") if threaded else None
        aside = threaded and self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if aside else None
        self._drawn: tuple[int, Callable[[], tuple[TensorDictBase, torch.cuda.Event | None]]] | None = None

    def draw(self) -> None:
        """Draw the next batch's windows now and let the worker gather them.

        Raises:
            RuntimeError: if the batch drawn before has not been taken.
            ValueError: if the replay holds too few records.
        """
        if self._drawn is not None:
            raise RuntimeError("draw() was called twice: take the first batch by sample() before the next is drawn")
        sampler = self._replay.sampler
        index, _ = sampler.sample(self._replay.storage, self._replay.batch_size)
        gather = partial(self._gather, index)
        self._drawn = sampler.write_count, gather if self._worker is None else self._worker.submit(gather).result

    def sample(self) -> TensorDictBase:
        """Return the batch [b t] drawn before, or one drawn now, as ``replay.sample()`` would, on ``device``.

        Raises:
            RuntimeError: if records were written since it was drawn: they may have overwritten its own.
        """
        if self._drawn is None:
            self.draw()
        assert self._drawn is not None
        (written, gather), self._drawn = self._drawn, None
        batch, copied = gather()
        if written != self._replay.sampler.write_count:
            raise RuntimeError("records were written between draw() and sample(): call extend() before or after both")
        if copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(copied)
            for entry in batch.values(True, True):
                entry.record_stream(stream)  # or its memory, the other stream's, were reused too early
        return batch

    def shutdown(self) -> None:
        """End the worker; a batch that it still gathers is lost."""
        if self._worker is not None:
            self._worker.shutdown()
        self._drawn = None

    def _gather(self, index: Tensor) -> tuple[TensorDictBase, torch.cuda.Event | None]:
        batch = self._unpack(self._replay.storage.get(index)).set("index", index)
        if self._stream is None:
            return batch.to(self._device, non_blocking=self._device.type == "cuda"), None
        with torch.cuda.stream(self._stream):
            return batch.to(self._device, non_blocking=True), self._stream.record_event()
