"""A teacher's training, its scores and its options."""

from __future__ import annotations

import statistics
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from tests.support.tasks import CountingTask
from tests.support.teachers import (
    COUNTING,
    COUNTING_DISCRETE,
    PAYING,
    PAYING_DISCRETE,
    make_config,
)
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.teachers import (
    resolve_options,
    tasks,
    train_teacher,
    training,
)
from torchrl_glam.offline.teachers.config import (
    Algorithm,
    NewDatasetConfig,
    PPOConfig,
    SACConfig,
    TaskConfig,
)
from torchrl_glam.offline.teachers.recording import (
    ENTRIES,
    read_steps,
)
from torchrl_glam.offline.teachers.tasks import make_task_env
from torchrl_glam.offline.teachers.training import UniformPolicy, play_returns


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_a_teacher_is_the_same_for_the_same_seed(name, tmp_path, monkeypatch):
    config, made, steps = make_config(name), [], []
    for folder in ("one", "other"):
        monkeypatch.setattr(CountingTask, "made", 0)  # the task observes its number
        made.append(train_teacher(config, tmp_path / folder))
        steps.append(read_steps(tmp_path / folder / "steps.safetensors", 96))
    assert replace(made[0], folder=made[1].folder) == made[1]
    for one, other in zip(*steps, strict=True):
        assert all(np.array_equal(one[entry], other[entry]) for entry in ENTRIES)


def test_as_many_episodes_of_each_environment_count_for_a_score():
    config = make_config()
    env = make_task_env(config, 2, lambda env: env)
    # Side by side: episodes of 3, 3; then 5, 5; 2, 2: returns 6, 15, 3.
    returns = play_returns(UniformPolicy(env, 0), env, 6, seed=0)
    assert sorted(returns) == [3, 3, 6, 6, 15, 15]


def test_an_endless_episode_is_cut():
    env = make_task_env(make_config(), 1, lambda env: TimeLimit(env, 2))
    assert play_returns(UniformPolicy(env, 0), env, 2, seed=0) == [3, 3]


@pytest.mark.parametrize(("name", "best"), [(PAYING, 3), (PAYING_DISCRETE, 1)])
def test_a_teacher_learns(name, best, tmp_path):
    # The reward is the step, which nobody can change, plus the action.
    config = make_config(name)
    config.total_frames, config.snapshots, config.reference_episodes = 640, 2, 6  # three in each environment
    config.sac.learning_rate, config.sac.gamma, config.sac.ent_coef, config.sac.batch_size = 1e-2, 0.1, 0.02, 64
    config.ppo.n_steps, config.ppo.batch_size, config.ppo.n_epochs = 32, 32, 4
    config.ppo.learning_rate, config.ppo.gamma = 2e-2, 0.1
    teacher = train_teacher(config, tmp_path / "teacher")
    bonus = teacher.expert_score - teacher.random_score
    middle = 0.5
    possible = (best - middle) * statistics.fmean(CountingTask.LENGTHS)
    assert bonus > 0.5 * possible


def test_a_training_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    config, calls = make_config(), []

    def break_off(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return play_returns(*args, **options)

    monkeypatch.setattr(training, "play_returns", break_off)
    with pytest.raises(KeyboardInterrupt):
        train_teacher(config, tmp_path / "teachers" / "one")
    assert list((tmp_path / "teachers").iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^teacher_dir=\S+ cannot be written \(File exists\): choose another folder$"):
        train_teacher(make_config(), tmp_path / "file" / "teacher")


WRONG = {
    "unknown": ({"name": "Hoper-v5"}, "did you mean Hopper-v5"),
    "pixels": ({"name": "tests.support.games:CatchBall-v0"}, "observes Box.*: choose a task that observes a vector"),
    "number": ({"name": "Taxi-v4"}, "observes Discrete.*: choose a task that observes a vector"),
    "sac": ({"name": COUNTING_DISCRETE, "teacher": Algorithm.sac}, "teacher=sac learns continuous actions"),
    "environments": ({"ppo": PPOConfig(n_envs=0)}, "ppo.n_envs=0: give a whole number of at least 1"),
    "rate": (
        {"ppo": PPOConfig(learning_rate=float("nan"))},
        "ppo.learning_rate=nan: give a finite number of at least 0",
    ),
    "a share": ({"ppo": PPOConfig(gae_lambda=1.5)}, "ppo.gae_lambda=1.5: give a number from 0 to 1"),
    "widths": ({"sac": SACConfig(net_arch=[0])}, r"sac.net_arch=\[0\]: give whole numbers of at least 1"),
    "a batch": (
        {"ppo": PPOConfig(n_envs=2, n_steps=16, batch_size=64)},
        r"ppo.batch_size=64 must be a divisor of ppo.n_envs \* ppo.n_steps = 32",
    ),
    "steps": ({"steps": 0}, "steps=0: give a whole number of at least 1"),
    "medium": ({"medium": 1.5}, "medium=1.5: give a number above 0"),
    "until": ({"given": ["until"]}, "until is read by quality=replay only: leave it out"),
    "ppo": ({"given": ["seed", "ppo.gamma"]}, r"ppo.gamma is read by teacher=ppo only: leave it out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_make_no_sense(case):
    options, message = WRONG[case]
    options = dict(options)
    name, given = options.pop("name", COUNTING), options.pop("given", [])
    with pytest.raises(UsageError, match=message):
        resolve_options(NewDatasetConfig(TaskConfig(name), **options), given)


def test_without_mujoco(monkeypatch):
    def fail(spec):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed, run `pip install ...`")

    monkeypatch.setattr(tasks.gymnasium, "make", fail)
    monkeypatch.setattr(tasks, "find_module", lambda name: None)
    with pytest.raises(UsageError, match=r'^env.name=Hopper-v5 needs .* missing: pip install "gymnasium\[mujoco\]"$'):
        resolve_options(NewDatasetConfig())


def test_what_auto_means():
    algorithms = {}
    for name in ("CartPole-v1", COUNTING, COUNTING_DISCRETE):
        config = NewDatasetConfig(TaskConfig(name))
        resolve_options(config)
        algorithms[name] = (config.teacher, config.total_frames)
    assert algorithms == {
        "CartPole-v1": (Algorithm.ppo, 32_768),
        COUNTING: (Algorithm.sac, 200_000),
        COUNTING_DISCRETE: (Algorithm.ppo, 200_000),
    }
