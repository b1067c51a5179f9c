"""Teachers: what they record is what was played, what they learn ends where an episode really ends."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from tests.support.tasks import CountingTask
from torchrl_glam.errors import DamagedError, UsageError
from torchrl_glam.offline.teachers import (
    Snapshot,
    Teacher,
    read_teacher,
    record_dataset,
    resolve_options,
    tasks,
    train_teacher,
    training,
)
from torchrl_glam.offline.teachers.config import (
    Algorithm,
    NewDatasetConfig,
    PPOConfig,
    Quality,
    SACConfig,
    TaskConfig,
    Until,
)
from torchrl_glam.offline.teachers.datasets import play_steps
from torchrl_glam.offline.teachers.recording import (
    ENTRIES,
    Recorder,
    episode_return,
    first_steps,
    is_whole,
    read_steps,
    to_buffer,
)
from torchrl_glam.offline.teachers.tasks import make_task_env
from torchrl_glam.offline.teachers.training import UniformPolicy, make_model, play_returns

COUNTING, PAYING = "tests.support.tasks:CountingTask-v0", "tests.support.tasks:PayingTask-v0"
COUNTING_DISCRETE = "tests.support.tasks:CountingTaskDiscrete-v0"
PAYING_DISCRETE = "tests.support.tasks:PayingTaskDiscrete-v0"


def make_config(name=COUNTING, **options):
    """Options for seconds of training."""
    config = NewDatasetConfig(
        TaskConfig(name),
        total_frames=96,
        snapshots=3,
        evaluation_episodes=2,
        reference_episodes=4,
        sac=SACConfig(n_envs=2, gradient_steps=4, learning_starts=16, batch_size=8, net_arch=[8, 8]),
        ppo=PPOConfig(n_envs=2, n_steps=8, batch_size=8, n_epochs=1, net_arch=[8, 8]),
        **options,
    )
    resolve_options(config)
    return config


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """A teacher of each kind that has learnt a task that counts."""
    made = {}
    for name in (COUNTING, COUNTING_DISCRETE):
        config = make_config(name)
        made[name] = train_teacher(config, tmp_path_factory.mktemp("teachers") / "teacher"), config
    return made


def check_episode(episode):
    """An episode of CountingTask, whole, and nothing else."""
    number, turn, step = episode["observations"].T
    length = CountingTask.LENGTHS[int(turn[0]) % 3]
    truncate = int(turn[0]) % 2 == 1
    assert step.tolist() == list(range(length + 1))
    assert episode["rewards"].tolist() == list(range(1, length + 1))
    assert len(set(number)) == len(set(turn)) == 1
    assert episode["terminations"].tolist() == [False] * (length - 1) + [not truncate]
    assert episode["truncations"].tolist() == [False] * (length - 1) + [truncate]


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_the_record_of_a_training_is_all_that_was_played(teachers, name):
    teacher, _ = teachers[name]
    episodes = read_steps(teacher.folder / "steps.safetensors", 96)
    for episode in episodes:
        check_episode(episode)
    # Each environment's episodes are in a row, and what it had begun at the end is left out.
    numbers = {int(episode["observations"][0, 0]) for episode in episodes}
    assert len(numbers) == 2
    for number in numbers:
        own = [episode for episode in episodes if episode["observations"][0, 0] == number]
        turns = [int(episode["observations"][0, 1]) for episode in own]
        assert turns == list(range(turns[0], turns[0] + len(own)))
        assert 48 - 5 < sum(len(episode["rewards"]) for episode in own) <= 48
    turns = [int(episode["observations"][0, 1]) for episode in episodes]
    assert turns == sorted(turns)  # in the order in which they ended: the two play in step
    first = read_steps(teacher.folder / "steps.safetensors", 32)
    assert 32 - 2 * 5 < sum(len(episode["rewards"]) for episode in first) <= 32
    assert all(np.array_equal(a["actions"], b["actions"]) for a, b in zip(first, episodes, strict=False))


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


def test_damaged_steps_are_noticed(teachers, tmp_path):
    file = tmp_path / "steps.safetensors"
    with pytest.raises(DamagedError, match="damaged"):
        read_steps(file, 96)
    file.write_bytes((teachers[COUNTING][0].folder / "steps.safetensors").read_bytes()[:-9])
    with pytest.raises(DamagedError, match="damaged"):
        read_steps(file, 96)
    snapshot = next(teachers[COUNTING][0].folder.glob("policy-*"))
    with pytest.raises(DamagedError, match="holds no steps of a training"):
        read_steps(snapshot, 96)


def make_episode(length, whole=True):
    episode = {name: np.zeros(length, dtype) for name, dtype in ENTRIES.items()}
    episode["observations"] = np.arange(length + 1.0)[:, None]
    episode["terminations"][-1] = whole
    return episode


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (None, [(3, True), (4, True), (2, True)]),
        (7, [(3, True), (4, True)]),
        (6, [(3, True), (3, False)]),
        (8, [(3, True), (4, True), (1, False)]),
        (1, [(1, False)]),
        (99, [(3, True), (4, True), (2, True)]),
    ],
)
def test_whole_episodes_up_to_a_number_of_steps(limit, wanted):
    cut = list(first_steps(map(make_episode, (3, 4, 2)), limit))
    assert [(len(episode["rewards"]), is_whole(episode)) for episode in cut] == wanted
    assert all(len(episode["observations"]) == len(episode["rewards"]) + 1 for episode in cut)


def test_a_cut_episode_is_truncated_and_ends_with_a_real_observation():
    episode = next(episode for episode in play(COUNTING, 12) if len(episode["rewards"]) == 5)
    (cut,) = first_steps([episode], 3)
    buffer = to_buffer(cut)
    assert buffer.observations[:, 2].tolist() == [0, 1, 2, 3]
    assert buffer.observations.dtype == "float32"
    assert (buffer.terminations.tolist(), buffer.truncations.tolist()) == ([False] * 3, [False, False, True])
    whole = to_buffer(episode)
    assert (whole.terminations.any(), whole.truncations.tolist()) == (False, [False] * 4 + [True])
    assert whole.rewards.sum() == episode_return(episode) == 15


def play(name, steps, greedy=False):
    """Episodes of a teacher that has learnt nothing."""
    config = make_config(name)
    return play_steps(make_model(config, make_task_env(config, 1, Recorder)), steps, seed=0, greedy=greedy)


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_recorded_episodes_are_whole_but_for_the_last(name):
    episodes = play(name, 20)
    assert sum(len(episode["rewards"]) for episode in episodes) == 20
    for episode in episodes[:-1]:
        check_episode({entry: np.array(values) for entry, values in episode.items()})
        actions = np.array(episode["actions"])
        assert ((actions >= -2) & (actions <= 3)).all()
    assert to_buffer(episodes[-1]).truncations[-1]


def test_as_many_episodes_of_each_environment_count_for_a_score():
    config = make_config()
    env = make_task_env(config, 2, lambda env: env)
    # Side by side: episodes of 3, 3; then 5, 5; 2, 2: returns 6, 15, 3.
    returns = play_returns(UniformPolicy(env, 0), env, 6, seed=0)
    assert sorted(returns) == [3, 3, 6, 6, 15, 15]


def test_an_endless_episode_counts_as_it_stands():
    env = make_task_env(make_config(), 1, lambda env: TimeLimit(env, 2))
    assert play_returns(UniformPolicy(env, 0), env, 2, seed=0) == [3, 3]


def make_scores(*means, random=0.0, expert=100.0):
    snapshots = [Snapshot(10 * number, [mean, mean]) for number, mean in enumerate(means, 1)]
    return Teacher("folder", {}, "PPO", [random], [expert], 40, snapshots)


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


def test_a_teacher_comes_back_for_the_same_options_alone(teachers):
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


def test_what_is_no_teacher(tmp_path):
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
    "rate": ({"ppo": PPOConfig(learning_rate=float("nan"))}, "ppo.learning_rate=nan: give a number from 0"),
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


@pytest.mark.parametrize("quality", list(Quality))
def test_datasets_of_every_quality(teachers, quality, tmp_path, monkeypatch):
    import minari

    teacher, config = teachers[COUNTING_DISCRETE]
    config = make_config(COUNTING_DISCRETE, quality=quality, steps=None if quality is Quality.replay else 21)
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: teacher.snapshots[1])
    made = record_dataset(teacher, config, "tests/one-v0", tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("tests/one-v0")
    episodes = list(dataset.iterate_episodes())
    assert (dataset.total_steps, dataset.total_episodes) == (made.steps, len(made.returns))
    assert [episode.rewards.sum() for episode in episodes] == made.returns
    assert {episode.terminations[-1] + episode.truncations[-1] for episode in episodes} == {1}
    assert 64 - 2 * 5 < made.steps <= 64 if quality is Quality.replay else made.steps == 21
    assert dataset.env_spec.id == "CountingTaskDiscrete-v0"
    assert {action for episode in episodes for action in episode.actions.tolist()} <= {0, 1}
    metadata = dataset.storage.metadata
    assert metadata["ref_min_score"] == pytest.approx(teacher.random_score)
    assert metadata["ref_max_score"] == pytest.approx(teacher.expert_score)
    assert all(
        word in metadata["description"] for word in ("quality " + quality.value, "PPO of stable-baselines3", "96 steps")
    )


def test_half_of_each_where_medium_is_the_expert(teachers, tmp_path, monkeypatch):
    teacher, _ = teachers[COUNTING_DISCRETE]
    expert = next(snapshot for snapshot in teacher.snapshots if snapshot.frame == teacher.expert)
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: expert)
    config = make_config(COUNTING_DISCRETE, quality=Quality.mixed, steps=21)
    assert record_dataset(teacher, config, "tests/half-v0", tmp_path).steps == 21


def test_the_replay_of_the_whole_training(teachers, tmp_path, monkeypatch):
    teacher, _ = teachers[COUNTING]
    monkeypatch.setattr(Teacher, "choose_medium", lambda teacher, fraction: teacher.snapshots[0])
    config = make_config(quality=Quality.replay, until=Until.end)
    made = record_dataset(teacher, config, "tests/all-v0", tmp_path)
    assert 96 - 2 * 5 < made.steps <= 96
    config = make_config(quality=Quality.replay)
    assert 32 - 2 * 5 < record_dataset(teacher, config, "tests/first-v0", tmp_path).steps <= 32
