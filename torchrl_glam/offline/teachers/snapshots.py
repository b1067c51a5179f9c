"""The folder of a teacher: copies of its policy with their scores, and the steps of its training.

``teacher.json`` names options and scores; ``policy-*.safetensors`` hold weights, ``steps.safetensors`` all steps.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO, SAC

from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.offline.teachers.config import NewDatasetConfig, TeacherConfig
from torchrl_glam.runs.checkpoint import read_state, write_state
from torchrl_glam.runs.foreign import read_json
from torchrl_glam.runs.reading import numbers, want, whole_number

Model = PPO | SAC
TEACHER, STEPS = "teacher.json", "steps.safetensors"
FORMAT = 2  # 1: teachers of TorchRL's parts


@dataclass(frozen=True)
class Snapshot:
    """A copy of the policy.

    Args:
        frame: environment steps that it was trained on.
        returns: of its episodes with sampled actions.
    """

    frame: int
    returns: list[float]

    @property
    def mean(self) -> float:
        """The mean return."""
        return statistics.fmean(self.returns)


@dataclass(frozen=True)
class Teacher:
    """A teacher that has learned its task.

    Args:
        folder: its folder.
        options: those of its training, as nested dicts.
        algorithm: its name, ``PPO`` or ``SAC``.
        random_returns: of a policy of uniform actions.
        expert_returns: of the best snapshot, playing its most likely actions.
        expert: the frame of that snapshot.
        snapshots: all of them, the earliest first.
    """

    folder: Path
    options: dict[str, Any]
    algorithm: str
    random_returns: list[float]
    expert_returns: list[float]
    expert: int
    snapshots: list[Snapshot]

    @property
    def random_score(self) -> float:
        """The mean return of a policy of uniform actions."""
        return statistics.fmean(self.random_returns)

    @property
    def expert_score(self) -> float:
        """The mean return of the best snapshot."""
        return statistics.fmean(self.expert_returns)

    def choose_medium(self, fraction: float) -> Snapshot:
        """Return an early snapshot near ``random + fraction (expert - random)``.

        It is the nearest one of the first three in a row whose mean reaches that: a single evaluation may be lucky.

        Raises:
            UsageError: if there are no such three.
        """
        target = self.random_score + fraction * (self.expert_score - self.random_score)
        for stop in range(min(3, len(self.snapshots)), len(self.snapshots) + 1):
            row = self.snapshots[max(0, stop - 3) : stop]
            if statistics.fmean(snapshot.mean for snapshot in row) >= target:
                return min(row, key=lambda snapshot: abs(snapshot.mean - target))
        raise UsageError(
            f"no three snapshots in a row in {self.folder} reach medium={fraction:g}, a mean return of {target:.1f} "
            "(with sampled actions, where the expert's are not): choose less, or let another teacher train longer, "
            f"total_frames={2 * self.options['total_frames']} teacher_dir={self.folder}-longer"
        )

    def save_policy(self, frame: int, model: Model) -> None:
        """Write the weights of ``model``, and its environment's statistics of observations, as a snapshot.

        Not by ``model.save``, whose files hold pickled objects.
        """
        normaliser: Any = model.get_vec_normalize_env()
        statistics = None
        if normaliser is not None:
            statistics = [torch.from_numpy(values) for values in (normaliser.obs_rms.mean, normaliser.obs_rms.var)]
        write_state(self._path(frame), {"policy": model.policy.state_dict(), "statistics": statistics})

    def load_policy(self, frame: int, model: Model) -> None:
        """Copy the snapshot of step ``frame`` into ``model`` and its environment, whose statistics then stay.

        Raises:
            UsageError: if the file is damaged or missing.
        """
        path = self._path(frame)
        normaliser: Any = model.get_vec_normalize_env()
        try:
            state = read_state(path)
            model.policy.load_state_dict(state["policy"])
            if normaliser is not None:
                normaliser.obs_rms.mean, normaliser.obs_rms.var = (values.numpy() for values in state["statistics"])
                normaliser.training = False
        except (DamagedError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is damaged or missing: remove {self.folder} to train again") from error

    def write(self) -> None:
        """Write ``teacher.json``, after everything else."""
        content = {name: value for name, value in asdict(self).items() if name != "folder"}
        (self.folder / TEACHER).write_text(json.dumps({"format": FORMAT, **content}, indent=1) + "\n")

    def _path(self, frame: int) -> Path:
        return self.folder / f"policy-{frame:012d}.safetensors"


def read_teacher(folder: Path, config: TeacherConfig) -> Teacher:
    """Read a teacher's folder.

    Raises:
        UsageError: if it holds no teacher of this version, or one that was trained by other options.
    """
    nothing = f"teacher_dir={folder} holds no finished teacher: choose another folder"
    try:
        content = read_json(folder / TEACHER)
        version = content.pop("format")
    except (AttributeError, KeyError, TypeError, UsageError) as error:
        raise UsageError(nothing) from error
    if version != FORMAT:
        raise UsageError(
            f"teacher_dir={folder} holds a teacher of format {str(version)[:80]}, which another version of "
            f"torchrl_glam wrote (this one reads format {FORMAT}): choose another folder"
        )
    try:
        snapshots = [Snapshot(**snapshot) for snapshot in content.pop("snapshots")]
        teacher = Teacher(folder, snapshots=snapshots, **content)
        want(isinstance(teacher.options, dict), "its options have no names")
        for returns in (teacher.random_returns, teacher.expert_returns, *(snapshot.returns for snapshot in snapshots)):
            numbers("returns", returns)
        for snapshot in snapshots:
            whole_number("frame", snapshot.frame)
    except (AttributeError, KeyError, TypeError, UsageError) as error:
        raise UsageError(nothing) from error
    had, wanted = flatten_options(teacher.options), flatten_options(teacher_options(config))
    for name in sorted({*had, *wanted}):
        if had.get(name) != wanted.get(name):
            raise UsageError(
                f"the teacher in teacher_dir={folder} has {name}={had.get(name)}, the options say {wanted.get(name)}: "
                "ask for the same, or choose another teacher_dir"
            )
    return teacher


def teacher_options(config: TeacherConfig) -> dict[str, Any]:
    """Return the options that a teacher depends on: not those of one dataset."""
    own = set(NewDatasetConfig.__dataclass_fields__) - set(TeacherConfig.__dataclass_fields__)
    unused = {"ppo": "sac", "sac": "ppo"}.get(config.teacher.name)
    return {name: value for name, value in plain_options(config).items() if name not in own and name != unused}
