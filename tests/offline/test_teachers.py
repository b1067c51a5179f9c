"""Teachers: what they record is what was played, what they learn ends where an episode really ends."""

from __future__ import annotations

import json
import logging
import statistics

import gymnasium
import pytest
import torch
from tensordict import TensorDict
from torchrl.data import OneHot
from torchrl.envs.utils import RandomPolicy

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
from torchrl_glam.offline.teachers.networks import Normaliser, make_actor
from torchrl_glam.offline.teachers.playing import play_episodes, play_returns
from torchrl_glam.offline.teachers.recording import cut_episodes, episode_return, first_steps, read_steps, to_buffer
from torchrl_glam.offline.teachers.recording import write_steps as write
from torchrl_glam.offline.teachers.sac import SACTeacher
from torchrl_glam.offline.teachers.tasks import make_task_env
from torchrl_glam.offline.teachers.training import make_teacher

COUNTING, PAYING = "tests.support.tasks:CountingTask-v0", "tests.support.tasks:PayingTask-v0"
COUNTING_DISCRETE = "tests.support.tasks:CountingTaskDiscrete-v0"
PAYING_DISCRETE = "tests.support.tasks:PayingTaskDiscrete-v0"


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("torchrl").setLevel(logging.WARNING)


def make_config(name=COUNTING, **options):
    """Options for seconds of training."""
    config = NewDatasetConfig(
        TaskConfig(name), total_frames=96, snapshots=3, evaluation_episodes=2, reference_episodes=4, **options
    )
    config.sac.num_envs, config.sac.frames_per_batch, config.sac.warmup_frames = 2, 8, 16
    config.sac.batch_size, config.sac.width = 8, 8
    config.ppo.num_envs, config.ppo.frames_per_batch, config.ppo.batch_size, config.ppo.width = 2, 16, 8, 8
    config.ppo.epochs = 1
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
    number, turn, step = episode["observation"].unbind(-1)
    length = CountingTask.LENGTHS[int(turn[0]) % 3]
    truncate = int(turn[0]) % 2 == 1
    following = episode["next"]
    assert len(episode) == length
    assert step.tolist() == list(range(length))
    assert following["observation"][:, 2].tolist() == list(range(1, length + 1))
    assert following["reward"].flatten().tolist() == list(range(1, length + 1))
    assert number.unique().numel() == turn.unique().numel() == 1
    assert following["done"].flatten().tolist() == [False] * (length - 1) + [True]
    assert following["terminated"].flatten().tolist() == [False] * (length - 1) + [not truncate]


@pytest.mark.parametrize("name", [COUNTING, COUNTING_DISCRETE])
def test_the_record_of_a_training_is_all_that_was_played(teachers, name):
    teacher, _ = teachers[name]
    steps = read_steps(teacher.folder / "steps", 96)
    assert steps.shape == (2, 48)
    episodes = cut_episodes(steps)
    for episode in episodes:
        check_episode(episode)
    # Each environment's episodes are in a row, and what it had begun at the end is left out.
    for number in steps["observation"][:, 0, 0].tolist():
        own = [episode for episode in episodes if episode["observation"][0, 0] == number]
        turns = [int(episode["observation"][0, 1]) for episode in own]
        assert turns == list(range(turns[0], turns[0] + len(own)))
        assert 48 - 5 < sum(map(len, own)) <= 48
    ends = [episode["observation"][0, 1].item() for episode in episodes]
    assert ends == sorted(ends)  # in the order in which they ended: the two play in step
    assert len(read_steps(teacher.folder / "steps", 32)[0]) == 16


def test_a_lost_file_of_steps_is_noticed(teachers, tmp_path):
    steps = read_steps(teachers[COUNTING][0].folder / "steps", 96)
    write(tmp_path, 32, [steps[:, :16]])
    write(tmp_path, 64, [steps[:, 16:20], steps[:, 20:32]])
    assert torch.equal(read_steps(tmp_path, 64)["action"], steps["action"][:, :32])
    for lost in (64, 32):  # the last one, and with it the first
        (tmp_path / f"steps-{lost:012d}.safetensors").unlink()
        with pytest.raises(DamagedError, match=f"holds {lost - 32} of the first 64 steps"):
            read_steps(tmp_path, 64)


def make_steps(*lengths):
    return [TensorDict({"next": {"reward": torch.ones(length, 1)}}, [length]) for length in lengths]


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
    got = [(len(episode), whole) for episode, whole in first_steps(make_steps(3, 4, 2), limit)]
    assert got == wanted


def test_a_cut_episode_is_truncated_and_ends_with_a_real_observation():
    (episode,) = [e for e in play_episodes(COUNTING, random_policy(COUNTING), 12, seed=0) if len(e) == 5][:1]
    buffer = to_buffer(episode[:3], False)
    assert buffer.observations[:, 2].tolist() == [0, 1, 2, 3]
    assert buffer.observations.dtype == "float32"
    assert (buffer.terminations.tolist(), buffer.truncations.tolist()) == ([False] * 3, [False, False, True])
    whole = to_buffer(episode, True)
    assert (whole.terminations.any(), whole.truncations.tolist()) == (False, [False] * 4 + [True])
    assert whole.rewards.sum() == episode_return(episode) == 15


def random_policy(name):
    return RandomPolicy(make_task_env(name, 1, 0).full_action_spec)


def test_recorded_episodes_are_whole():
    episodes = play_episodes(COUNTING, random_policy(COUNTING), 20, seed=0)
    assert sum(map(len, episodes)) >= 20
    for episode in episodes:
        check_episode(episode)
        assert ((episode["action"] >= -2) & (episode["action"] <= 3)).all()


def test_each_environments_first_episodes_count_for_a_score():
    env = make_task_env(COUNTING, 2, 0)
    # Side by side: episodes of 3, 3; then 5, 5; 2, 2: returns 6, 15, 3. (Making an environment resets it once.)
    returns = play_returns(env, RandomPolicy(env.full_action_spec), 5, seed=0)
    assert len(returns) == 5
    assert returns[0] == returns[1]
    assert returns[2] == returns[3]
    assert sorted({returns[0], returns[2], returns[4]}) == [3, 6, 15]


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


def test_the_normaliser_is_that_of_all_it_saw():
    observation = 3 + 2 * torch.randn(4, 50, 3, generator=torch.Generator().manual_seed(0))
    normaliser = Normaliser(3)
    for part in observation.split([7, 20, 23], 1):
        normaliser.observe(part)
    flat = observation.flatten(0, 1)
    torch.testing.assert_close(normaliser.mean, flat.mean(0))
    torch.testing.assert_close(normaliser.variance, flat.var(0, unbiased=False))
    torch.testing.assert_close(normaliser(flat).std(0, unbiased=False), torch.ones(3))
    assert normaliser(torch.full((3,), 1e6)).tolist() == [10.0] * 3


def test_discrete_actors_choose_one_hot_actions():
    actor = make_actor(3, OneHot(4), 8, normalise=True, log_prob=True)
    step = actor(TensorDict({"observation": torch.randn(5, 3)}, [5]))
    assert step["action"].shape == (5, 4)
    assert (step["action"].sum(-1) == 1).all()
    assert step["action_log_prob"].shape == (5,)


def make_ends(terminated, size=2):
    """A batch [1 2] whose last step ends an episode."""
    ends = torch.tensor([[[False], [True]]])
    following = {
        "observation": torch.ones(1, 2, 3),
        "reward": torch.ones(1, 2, 1),
        "done": ends,
        "terminated": ends & terminated,
        "truncated": ends & (not terminated),
    }
    action = torch.zeros(1, 2, size)
    return TensorDict({"observation": torch.zeros(1, 2, 3), "action": action, "next": following}, [1, 2])


@pytest.mark.parametrize("terminated", [True, False])
def test_a_truncated_episode_has_a_future_for_ppo(terminated):
    config = make_config(COUNTING_DISCRETE)
    teacher = make_teacher(config, make_task_env(COUNTING_DISCRETE, 1, 0))
    batch = teacher._advantage(make_ends(terminated))
    future = 0.0 if terminated else 0.99 * batch["next", "state_value"][0, -1, 0]
    assert batch["next", "state_value"].abs().min() > 1e-3
    torch.testing.assert_close(batch["value_target"][0, -1, 0], torch.as_tensor(1.0 + future))


def test_a_truncated_episode_has_a_future_for_sac():
    config = make_config()
    teacher = make_teacher(config, make_task_env(COUNTING, 1, 0))
    assert isinstance(teacher, SACTeacher)
    losses = {}
    for terminated in (True, False):
        torch.manual_seed(0)
        losses[terminated] = teacher._loss(make_ends(terminated, 1)[0, -1:])["loss_qvalue"].item()
    assert losses[True] != losses[False]


@pytest.mark.parametrize(("name", "best"), [(PAYING, 3), (PAYING_DISCRETE, 1)])
def test_a_teacher_learns(name, best, tmp_path):
    # The reward is the step, which nobody can change, plus the action.
    config = make_config(name)
    config.total_frames, config.snapshots = 640, 2
    config.sac.updates_per_frame, config.sac.lr, config.sac.gamma, config.sac.alpha = 0.25, 1e-2, 0.1, 0.02
    config.sac.batch_size, config.ppo.batch_size, config.ppo.frames_per_batch = 64, 32, 64
    config.ppo.epochs, config.ppo.lr, config.ppo.gamma = 4, 2e-2, 0.1
    teacher = train_teacher(config, tmp_path / "teacher")
    bonus = teacher.expert_score - teacher.random_score
    middle = 0.5
    possible = (best - middle) * statistics.fmean(CountingTask.LENGTHS)
    assert bonus > 0.5 * possible


def test_snapshots_are_the_policy_as_it_was(teachers):
    teacher, config = teachers[COUNTING]
    assert [snapshot.frame for snapshot in teacher.snapshots] == [32, 64, 96]
    env = make_task_env(COUNTING, 1, 0)
    weights = []
    for snapshot in teacher.snapshots:
        actor = make_teacher(config, env).actor
        teacher.load_policy(snapshot.frame, actor)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in actor.parameters()]))
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert teacher.expert in (32, 64, 96)
    assert len(teacher.expert_returns) == len(teacher.random_returns) == 4


def test_a_teacher_comes_back_for_the_same_options_alone(teachers):
    teacher, config = teachers[COUNTING]
    assert read_teacher(teacher.folder, config) == teacher
    config = make_config(quality=Quality.mixed, steps=5, medium=0.9)  # a dataset's, not the teacher's
    config.ppo.lr = 1.0  # of the other algorithm
    assert read_teacher(teacher.folder, config) == teacher
    config.sac.gamma = 0.5
    with pytest.raises(UsageError, match=r"has sac.gamma=0.99, the options say 0.5: ask for the same, or choose"):
        read_teacher(teacher.folder, config)
    with pytest.raises(UsageError, match=r"has seed=0, the options say 7: "):
        read_teacher(teacher.folder, make_config(seed=7))


def test_what_is_no_teacher(tmp_path):
    with pytest.raises(UsageError, match=r"^teacher_dir=\S+ holds no finished teacher: choose another folder"):
        read_teacher(tmp_path, make_config())
    (tmp_path / "teacher.json").write_text(json.dumps({"format": 1, "snapshots": []}))
    with pytest.raises(UsageError, match="holds no finished teacher"):
        read_teacher(tmp_path, make_config())


def test_a_training_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    config = make_config()
    update, calls = SACTeacher.update, []

    def break_off(teacher, batch):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        update(teacher, batch)

    monkeypatch.setattr(SACTeacher, "update", break_off)
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
    "environments": ({"ppo": PPOConfig(num_envs=0)}, "ppo.num_envs=0: give a whole number of at least 1"),
    "rate": ({"ppo": PPOConfig(lr=float("nan"))}, "ppo.lr=nan: give a number from 0"),
    "a batch": ({"ppo": PPOConfig(batch_size=64, frames_per_batch=32)}, "ppo.batch_size=64 must be at most"),
    "frames": ({"sac": SACConfig(num_envs=5)}, "sac.frames_per_batch=32 must be a multiple of sac.num_envs=5"),
    "steps": ({"steps": 0}, "steps=0: give a whole number of at least 1"),
    "medium": ({"medium": 1.5}, "medium=1.5: give a number above 0"),
    "until": ({"given": ["until"]}, "until means something to quality=replay alone: leave it out"),
    "ppo": ({"given": ["seed", "ppo.lr"]}, r"ppo.lr means something to teacher=ppo alone: leave it out"),
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
    assert all(word in metadata["description"] for word in ("quality " + quality.value, "PPO of TorchRL", "96 steps"))


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
