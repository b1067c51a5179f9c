"""How a run fares besides its losses: how old the data is that it learns from, its speed, its memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer

GIB = 2**30


def replay_age(batch: TensorDictBase, replay: TensorDictReplayBuffer) -> Tensor:
    """Mean number of real steps since the records of ``batch`` were written, a scalar on its device; 0 for the newest.

    Args:
        batch: a sample of either buffer that :func:`torchrl_glam.data.make_replay` returns, before more is written.
        replay: the first of them.

    Examples:
        >>> import torch
        >>> from torchrl_glam.data import make_replay
        >>> from torchrl_glam.envs import make_atari_env
        >>> replay, _ = make_replay(1000, sequences=(2, 20))
        >>> indices = replay.extend(make_atari_env("ALE/Pong-v5").rollout(20))
        >>> replay_age(replay.sample(), replay)  # of all 20
        tensor(9.5000)
    """
    newest = replay._writer._cursor - 1  # public in no form in torchrl 0.14.1
    return ((newest - batch["index"]) % replay.storage.max_size).float().mean()


class Health:
    """Speed and memory of this process, by the names under which they are logged: ``values = health(frame)``.

    - ``system/steps_per_second``: since the last call, so not at the first one.
    - ``system/memory_gib``: main memory that is resident now.
    - ``system/gpu_memory_gib``: of tensors on the GPU, at most so far.

    No two runs agree on them; they agree on all other metrics.

    Args:
        device: where the networks are.
        clock: seconds, from any start.

    Examples:
        >>> import torch
        >>> from torchrl_glam.runs.health import Health
        >>> health = Health(torch.device("cpu"))
        >>> list(health(100)), list(health(200))
        (['system/memory_gib'], ['system/memory_gib', 'system/steps_per_second'])
    """

    def __init__(self, device: torch.device, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock, self._process = device, clock, psutil.Process()
        self._last: tuple[int, float] | None = None

    def __call__(self, frame: int) -> dict[str, float]:
        """What holds after ``frame`` real steps."""
        values = {"system/memory_gib": self._process.memory_info().rss / GIB}
        if self._device.type == "cuda":
            values["system/gpu_memory_gib"] = torch.cuda.max_memory_allocated(self._device) / GIB
        now = self._clock()
        if self._last is not None and now > self._last[1]:
            values["system/steps_per_second"] = (frame - self._last[0]) / (now - self._last[1])
        self._last = frame, now
        return values
