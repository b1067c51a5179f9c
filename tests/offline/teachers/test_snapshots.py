"""The folder of a teacher: scores, policies, options."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.support.teachers import (
    COUNTING,
    COUNTING_DISCRETE,
    make_config,
)
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.teachers import (
    Snapshot,
    Teacher,
    read_teacher,
)
from torchrl_glam.offline.teachers.config import (
    Quality,
)
from torchrl_glam.offline.teachers.datasets import play_steps
from torchrl_glam.offline.teachers.recording import (
    Recorder,
)
from torchrl_glam.offline.teachers.tasks import make_task_env
from torchrl_glam.offline.teachers.training import make_model


def make_scores(*means, random=0.0, expert=100.0):
    snapshots = [Snapshot(10 * number, [mean, mean]) for number, mean in enumerate(means, 1)]
    return Teacher("folder", {"total_frames": 10}, "PPO", [random], [expert], 40, snapshots)


@pytest.mark.parametrize(
    ("means", "frame"),
    [
        ((10, 30, 45, 48, 90), 30),  # 20 to 40 are the first three in a row with a mean of 40 or more
        ((0, 0, 60, 0, 20, 39, 70, 41), 60),  # one that was lucky does not count
        ((50, 39), 20),
        ((50,), 10),
    ],
)
def test_the_medium_policy(means, frame):
    assert make_scores(*means).choose_medium(0.4).frame == frame
    shifted = make_scores(*(mean / 2 - 50 for mean in means), random=-50.0, expert=0.0)
    assert shifted.choose_medium(0.4).frame == frame


def test_no_medium_policy():
    with pytest.raises(
        UsageError, match=r"no three snapshots .* reach medium=0.4, a mean return of 40.0 .*: choose less"
    ):
        make_scores(10, 20).choose_medium(0.4)


def test_a_snapshot_keeps_the_statistics_of_observations(teachers):
    teacher, config = teachers[COUNTING_DISCRETE]
    model = make_model(config, make_task_env(config, 1, Recorder))
    teacher.load_policy(96, model)
    normaliser = model.get_vec_normalize_env()
    mean = normaliser.obs_rms.mean.copy()
    # The steps of the task are 0 to 5, and episodes are counted: neither has the mean 0 of a new environment.
    assert 0 < mean[2] < 5
    assert mean[1] > 1
    play_steps(model, 10, seed=0, greedy=False)
    assert np.array_equal(normaliser.obs_rms.mean, mean)


def test_snapshots_are_the_policy_as_it_was(teachers):
    teacher, config = teachers[COUNTING]
    assert [snapshot.frame for snapshot in teacher.snapshots] == [32, 64, 96]
    model = make_model(config, make_task_env(config, 1, Recorder))
    weights = []
    for snapshot in teacher.snapshots:
        teacher.load_policy(snapshot.frame, model)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()]))
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert teacher.expert in (32, 64, 96)
    assert len(teacher.expert_returns) == len(teacher.random_returns) == 4


def test_a_teacher_serves_only_the_same_options(teachers):
    teacher, config = teachers[COUNTING]
    assert read_teacher(teacher.folder, config) == teacher
    config = make_config(quality=Quality.mixed, steps=5, medium=0.9)  # a dataset's, not the teacher's
    config.ppo.learning_rate = 1.0  # of the other algorithm
    assert read_teacher(teacher.folder, config) == teacher
    config.sac.gamma = 0.5
    with pytest.raises(UsageError, match=r"has sac.gamma=0.99, the options say 0.5: ask for the same, or choose"):
        read_teacher(teacher.folder, config)
    with pytest.raises(UsageError, match=r"has seed=0, the options say 7: "):
        read_teacher(teacher.folder, make_config(seed=7))


def test_a_folder_without_a_teacher(tmp_path):
    with pytest.raises(UsageError, match=r"^teacher_dir=\S+ holds no finished teacher: choose another folder"):
        read_teacher(tmp_path, make_config())
    for content in ("[]", "{", json.dumps({"format": 2, "snapshots": []})):
        (tmp_path / "teacher.json").write_text(content)
        with pytest.raises(UsageError, match="holds no finished teacher"):
            read_teacher(tmp_path, make_config())
    (tmp_path / "teacher.json").write_text(json.dumps({"format": 1, "snapshots": []}))
    with pytest.raises(UsageError, match=r"of format 1, which another version of torchrl_glam wrote"):
        read_teacher(tmp_path, make_config())


def test_a_damaged_policy(teachers, tmp_path):
    teacher, config = teachers[COUNTING]
    model = make_model(config, make_task_env(config, 1, Recorder))
    with pytest.raises(UsageError, match=r"policy-000000000033.safetensors is damaged or missing: remove .* to train"):
        teacher.load_policy(33, model)
    other = make_model(make_config(COUNTING_DISCRETE), make_task_env(make_config(COUNTING_DISCRETE), 1, Recorder))
    with pytest.raises(UsageError, match="is damaged or missing"):
        teacher.load_policy(32, other)
