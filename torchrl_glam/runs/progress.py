"""How far a run has come: what its checkpoints say of the loop itself."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

from tensordict import TensorDict, TensorDictBase

from torchrl_glam.config.run import CheckpointConfig

RECENT = 10  # episodes whose mean return tells the best checkpoint


class StateDict(Protocol):
    """Whatever can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over a state."""
        ...


class Progress:
    """Step, time, recent returns and last metrics of a run.

    Attributes:
        frame: the step that is finished, of the environment or of an offline run's updates.
        metrics: of the last updates, by the update's name.
        shown: what the progress bar shows.
        metric_lengths: of the CSV files.
        saved_frame: of the last checkpoint.
    """

    def __init__(self) -> None:
        self.frame = self.saved_frame = 0
        self.metrics: dict[str, TensorDictBase] = {}
        self.shown: dict[str, str] = {}
        self.metric_lengths: dict[str, int] = {}
        self._returns: deque[float] = deque(maxlen=RECENT)
        self._seconds_before = 0.0
        self.begin()

    def begin(self) -> None:
        """Let the clock run."""
        self._began = self._saved = time.monotonic()

    def seconds(self) -> float:
        """Of training and evaluation so far; what was lost between a checkpoint and a kill is not counted."""
        return self._seconds_before + time.monotonic() - self._began

    def add_return(self, episode_return: float) -> None:
        """Of an episode that ended."""
        self._returns.append(episode_return)
        self.shown["return"] = f"{episode_return:g}"

    def train_return(self) -> float | None:
        """Mean return of the last ``RECENT`` episodes, once there are as many."""
        return sum(self._returns) / RECENT if len(self._returns) == RECENT else None

    def is_checkpoint_due(self, options: CheckpointConfig) -> bool:
        """Whether steps or minutes since the last one are enough."""
        steps = self.frame // options.every > self.saved_frame // options.every
        return steps or 0 < options.minutes * 60 <= time.monotonic() - self._saved

    def mark_saved(self) -> None:
        """A checkpoint of this step is on the disk."""
        self.saved_frame, self._saved = self.frame, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return {
            "frame": self.frame,
            "seconds": self.seconds(),
            "returns": list(self._returns),
            "shown": dict(self.shown),
            "metrics": {name: metrics.to_dict() for name, metrics in self.metrics.items()},
            "metric_lengths": dict(self.metric_lengths),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.frame = self.saved_frame = state_dict["frame"]
        self._seconds_before, self.shown = state_dict["seconds"], state_dict["shown"]
        self._returns.clear()
        self._returns.extend(state_dict["returns"])
        self.metrics = {name: TensorDict(metrics, batch_size=[]) for name, metrics in state_dict["metrics"].items()}
        self.metric_lengths = state_dict["metric_lengths"]
