"""The progress of a run: what its checkpoints say of the loop itself, speed, memory, the age of its data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import psutil
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer

from torchrl_glam.config import CheckpointConfig

RECENT = 10  # episodes whose mean return tells the best checkpoint
GIB = 2**30


class StateDict(Protocol):
    """An object that can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore a state."""
        ...


class Progress:
    """Step, time, recent returns and last metrics of a run.

    Attributes:
        frame: the step that is finished, of the environment or of an offline run's updates.
        metrics: of the last updates, by the update's name.
        shown: in the progress bar.
        metric_files: the copy of the CSV files, see :class:`~torchrl_glam.runs.metric_files.MetricFiles`.
        saved_frame: of the last checkpoint.
    """

    def __init__(self) -> None:
        self.frame = self.saved_frame = 0
        self.metrics: dict[str, TensorDictBase] = {}
        self.shown: dict[str, str] = {}
        self.metric_files: Mapping[str, Tensor | int] = {}
        self._returns: deque[float] = deque(maxlen=RECENT)
        self._seconds_before = 0.0
        self.begin()

    def begin(self) -> None:
        """Start the clock."""
        self._began = self._saved = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds of training and evaluation so far, without those lost between a checkpoint and a kill."""
        return self._seconds_before + time.monotonic() - self._began

    def add_return(self, episode_return: float) -> None:
        """Record the return of an episode that ended."""
        self._returns.append(episode_return)
        self.shown["return"] = f"{episode_return:g}"

    def train_return(self) -> float | None:
        """Return the mean return of the last ``RECENT`` episodes, or None while there are fewer."""
        return sum(self._returns) / RECENT if len(self._returns) == RECENT else None

    def is_checkpoint_due(self, options: CheckpointConfig) -> bool:
        """Return True if enough steps or minutes have passed since the last checkpoint."""
        steps = self.frame // options.every > self.saved_frame // options.every
        return steps or 0 < options.minutes * 60 <= time.monotonic() - self._saved

    def mark_saved(self) -> None:
        """Record that a checkpoint of this step is on the disk."""
        self.saved_frame, self._saved = self.frame, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors."""
        return {
            "frame": self.frame,
            "seconds": self.seconds(),
            "returns": list(self._returns),
            "shown": dict(self.shown),
            "metrics": {name: metrics.to_dict() for name, metrics in self.metrics.items()},
            "metric_files": dict(self.metric_files),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.frame = self.saved_frame = state_dict["frame"]
        self._seconds_before, self.shown = state_dict["seconds"], state_dict["shown"]
        self._returns.clear()
        self._returns.extend(state_dict["returns"])
        self.metrics = {name: TensorDict(metrics, batch_size=[]) for name, metrics in state_dict["metrics"].items()}
        earlier = state_dict.get("metric_lengths", {})  # of checkpoints before there were copies
        self.metric_files = state_dict.get("metric_files", earlier)


class Health:
    """Speed and memory of this process, by the names under which they are logged: ``values = health(frame)``.

    - ``system/steps_per_second``: since the last call, so not at the first one.
    - ``system/memory_gib``: main memory that is resident now.
    - ``system/gpu_memory_gib``: of tensors on the GPU, the peak so far.

    These are the only metrics that differ between two equal runs.

    Args:
        device: where the networks are.
        clock: seconds, from any start.

    Examples:
        >>> import torch
        >>> from torchrl_glam.runs.progress import Health
        >>> health = Health(torch.device("cpu"))
        >>> list(health(100)), list(health(200))
        (['system/memory_gib'], ['system/memory_gib', 'system/steps_per_second'])
    """

    def __init__(self, device: torch.device, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock, self._process = device, clock, psutil.Process()
        self._last: tuple[int, float] | None = None

    def __call__(self, frame: int) -> dict[str, float]:
        """Return the values after ``frame`` real steps."""
        values = {"system/memory_gib": self._process.memory_info().rss / GIB}
        if self._device.type == "cuda":
            values["system/gpu_memory_gib"] = torch.cuda.max_memory_allocated(self._device) / GIB
        now = self._clock()
        if self._last is not None and now > self._last[1]:
            values["system/steps_per_second"] = (frame - self._last[0]) / (now - self._last[1])
        self._last = frame, now
        return values


class Pace:
    """The time that a run still takes, by the frames it has done: not the first ones, in which updates are compiled.

    Args:
        clock: seconds, from any start.

    Examples:
        >>> from torchrl_glam.runs.progress import Pace
        >>> now = iter([0.0, 90.0, 100.0])
        >>> pace = Pace(clock=lambda: next(now))
        >>> [pace.seconds_left(frame, total=1000) for frame in (100, 200, 300)]
        [None, None, 70.0]
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._seen = clock, 0
        self._start = (0, 0.0)

    def seconds_left(self, frame: int, total: int) -> float | None:
        """Return the seconds until ``total`` frames; None at the first two calls. Call it at equal distances."""
        now, self._seen = self._clock(), self._seen + 1
        if self._seen <= 2:
            self._start = frame, now
            return None
        return (total - frame) * (now - self._start[1]) / (frame - self._start[0])


def replay_age(batch: TensorDictBase, replay: TensorDictReplayBuffer) -> Tensor:
    """Return the mean number of real steps since the records of ``batch`` were written, as a scalar on its device.

    The newest record has age 0.

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
    newest = replay._writer._cursor - 1  # torchrl 0.14.1 has no public form of it
    return ((newest - batch["index"]) % replay.storage.max_size).float().mean()
