"""The folder of a teacher: copies of its policy with their scores, and what it did while it learnt.

``teacher.json`` says what it is and how each copy scored; ``policies/`` has their weights, ``steps/`` every step.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.offline.teachers.config import NewDatasetConfig, TeacherConfig
from torchrl_glam.runs.checkpoint import read_state, write_state

TEACHER, POLICIES, STEPS = "teacher.json", "policies", "steps"


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
        """Its mean return."""
        return statistics.fmean(self.returns)


@dataclass(frozen=True)
class Teacher:
    """A teacher that has learnt its task.

    Args:
        folder: where it is.
        options: those that it was trained by, as nested dicts.
        algorithm: its name in full.
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
        """An early snapshot near ``random + fraction (expert - random)``.

        It is the nearest one of the first three in a row whose mean reaches that: a single evaluation may be lucky.

        Raises:
            UsageError: if none do.
        """
        target = self.random_score + fraction * (self.expert_score - self.random_score)
        for stop in range(min(3, len(self.snapshots)), len(self.snapshots) + 1):
            row = self.snapshots[max(0, stop - 3) : stop]
            if statistics.fmean(snapshot.mean for snapshot in row) >= target:
                return min(row, key=lambda snapshot: abs(snapshot.mean - target))
        raise UsageError(
            f"no three snapshots in a row in {self.folder} reach medium={fraction:g}, a mean return of {target:.1f} "
            "(with sampled actions, where the expert's are not): choose less, or train longer (total_frames)"
        )

    def load_policy(self, frame: int, actor: nn.Module) -> None:
        """Copy the weights of the snapshot of step ``frame`` into ``actor``."""
        path = policy_path(self.folder, frame)
        try:
            actor.load_state_dict(read_state(path))
        except (DamagedError, RuntimeError) as error:
            raise UsageError(f"{path} is damaged or missing: remove {self.folder} to train again") from error


def policy_path(folder: Path, frame: int) -> Path:
    """The file of a snapshot's weights."""
    return folder / POLICIES / f"policy-{frame:012d}.safetensors"


def write_policy(folder: Path, frame: int, actor: nn.Module) -> None:
    """Write a snapshot's weights."""
    write_state(policy_path(folder, frame), actor.state_dict())


def write_teacher(teacher: Teacher) -> None:
    """Write ``teacher.json``, after everything else."""
    content = {name: value for name, value in asdict(teacher).items() if name != "folder"}
    (teacher.folder / TEACHER).write_text(json.dumps({"format": 1, **content}, indent=1) + "\n")


def read_teacher(folder: Path, config: TeacherConfig) -> Teacher:
    """Read a teacher's folder.

    Raises:
        UsageError: if it is none, or the teacher was trained by other options.
    """
    try:
        content = json.loads((folder / TEACHER).read_text())
        snapshots = [Snapshot(**snapshot) for snapshot in content.pop("snapshots")]
        content.pop("format")
        teacher = Teacher(folder, snapshots=snapshots, **content)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"teacher_dir={folder} holds no finished teacher: choose another folder") from error
    had, wanted = flatten_options(teacher.options), flatten_options(teacher_options(config))
    for name in sorted({*had, *wanted}):
        if had.get(name) != wanted.get(name):
            raise UsageError(
                f"the teacher in teacher_dir={folder} has {name}={had.get(name)}, the options say {wanted.get(name)}: "
                "ask for the same, or choose another teacher_dir"
            )
    return teacher


def teacher_options(config: TeacherConfig) -> dict[str, Any]:
    """The options that a teacher depends on: not those of one dataset."""
    own = set(NewDatasetConfig.__dataclass_fields__) - set(TeacherConfig.__dataclass_fields__)
    options = plain_options(replace(config))
    used = {"ppo": "sac", "sac": "ppo"}.get(config.teacher.name)
    return {name: value for name, value in options.items() if name not in own and name != used}
