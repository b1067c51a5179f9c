"""A teacher learns its task by stable-baselines3, and leaves a folder for datasets of every quality."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from torchrl_glam.config.checks import check_values
from torchrl_glam.errors import UsageError, first_line
from torchrl_glam.factory import EVALUATION_SEED
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.teachers.config import Algorithm, NewDatasetConfig, Quality, TeacherConfig
from torchrl_glam.offline.teachers.recording import Episode, Recorder, write_steps
from torchrl_glam.offline.teachers.snapshots import STEPS, Model, Snapshot, Teacher, teacher_options
from torchrl_glam.offline.teachers.tasks import check_task, default_algorithm, default_frames, make_task_env

BEST = 3  # snapshots that are played again to find the expert
MAX_STEPS = 10_000  # of an episode that is played for its score


def resolve_options(config: NewDatasetConfig, given: Iterable[str] = ()) -> None:
    """Fill in the options that the task decides: the algorithm and the length of the training.

    Args:
        config: the options.
        given: names of those that the user gave.

    Raises:
        UsageError: if the algorithm cannot learn the task, a number is out of range, or an option is never read.
    """
    check_values(config)
    if (frames := config.ppo.n_envs * config.ppo.n_steps) % config.ppo.batch_size:
        raise UsageError(
            f"ppo.batch_size={config.ppo.batch_size} must be a divisor of ppo.n_envs * ppo.n_steps = {frames}"
        )
    if not 0 < config.medium <= 1:
        raise UsageError(
            f"medium={config.medium:g}: give a number above 0, the random policy, and at most 1, the expert"
        )
    _, action, _ = check_task(config.env.name)
    if config.teacher is Algorithm.auto:
        config.teacher = default_algorithm(config.env.name, action)
    if config.teacher is Algorithm.sac and isinstance(action, Discrete):
        raise UsageError(f"teacher=sac learns continuous actions, {config.env.name} has discrete ones: use teacher=ppo")
    if config.total_frames is None:
        config.total_frames = default_frames(config.env.name)
    unused = "sac." if config.teacher is Algorithm.ppo else "ppo."
    for name in given:
        if name.startswith(unused) or (name == "until" and config.quality is not Quality.replay):
            reader = "quality=replay" if name == "until" else f"teacher={unused[:-1]}"
            raise UsageError(f"{name} is read by {reader} only: leave it out")


def make_model(config: TeacherConfig, env: VecEnv) -> Model:
    """Make an untrained teacher for environments of :func:`~torchrl_glam.offline.teachers.tasks.make_task_env`.

    It seeds the global random generators, and draws its weights from them.
    """
    is_ppo = config.teacher is Algorithm.ppo
    options: dict[str, Any] = dict(vars(config.ppo if is_ppo else config.sac))
    del options["n_envs"]
    options |= {"policy_kwargs": {"net_arch": list(options.pop("net_arch"))}, "seed": config.seed, "device": "cpu"}
    if is_ppo:
        options["learning_rate"] = LinearSchedule(options["learning_rate"], 0.0, 1.0)
        return PPO("MlpPolicy", env, **options)
    options["ent_coef"] = f"auto_{options['ent_coef']}"
    return SAC("MlpPolicy", env, buffer_size=config.total_frames or default_frames(config.env.name), **options)


def train_teacher(config: TeacherConfig, folder: Path) -> Teacher:
    """Train a teacher and write its folder, which is there whole or not at all.

    Args:
        config: the options after :func:`resolve_options`.
        folder: a new one.

    Raises:
        UsageError: if the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".teacher-", dir=folder.parent) as temporary:
            made = Path(temporary, "teacher")
            made.mkdir()
            teacher = _train(config, made)
            teacher.write()
            os.replace(made, folder)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UsageError(f"teacher_dir={folder} cannot be written ({reason}): choose another folder") from error
    return replace(teacher, folder=folder)


def play_returns(policy: Any, env: VecEnv, episodes: int, *, seed: int, greedy: bool = False) -> list[float]:
    """Play whole episodes, an equal number in each environment, and return their undiscounted returns.

    Args:
        policy: has ``predict``, as the models of stable-baselines3 do.
        env: the environments.
        episodes: number of them.
        seed: of the environments, so that policies are compared on the same starts.
        greedy: take the most likely action instead of a sample.
    """
    env.seed(seed)
    returns, _ = evaluate_policy(policy, env, episodes, deterministic=greedy, return_episode_rewards=True)
    return list(map(float, returns))  # type: ignore[arg-type]


class UniformPolicy:
    """Uniform actions, for the reference score.

    Args:
        env: whose actions they are.
        seed: of the actions.
    """

    def __init__(self, env: VecEnv, seed: int) -> None:
        self._space = env.action_space
        self._space.seed(seed)

    def predict(self, observation: np.ndarray, state: Any = None, **_: Any) -> tuple[np.ndarray, Any]:
        """Return an action for each environment."""
        return np.stack([self._space.sample() for _ in observation]), state


class SnapshotCallback(BaseCallback):
    """Keeps copies of the policy at equal distances, after updates.

    Args:
        bar: shows the environment steps, and has their total.
        number: of copies.
        keep: is called with the training's step.
    """

    def __init__(self, bar: tqdm, number: int, keep: Callable[[int], None]) -> None:
        super().__init__()
        self._bar, self._number, self._keep, self._kept = bar, number, keep, 0

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= math.ceil(self._bar.total * (self._kept + 1) / self._number):
            self._keep(self.num_timesteps)
            self._kept += 1

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self._keep(self.num_timesteps)


def _train(config: TeacherConfig, folder: Path) -> Teacher:
    seed, num_envs = config.seed + EVALUATION_SEED, min(8, config.evaluation_episodes)
    judge = make_task_env(config, num_envs, partial(TimeLimit, max_episode_steps=MAX_STEPS))
    player = make_model(config, judge)
    random_returns = play_returns(UniformPolicy(judge, seed), judge, config.reference_episodes, seed=seed)
    sizes = config.ppo if config.teacher is Algorithm.ppo else config.sac
    env = make_task_env(config, sizes.n_envs, Recorder)
    model = make_model(config, env)
    name = type(model).__name__
    teacher = Teacher(folder, teacher_options(config), name, random_returns, [], 0, [])

    def keep(frame: int) -> None:
        teacher.save_policy(frame, model)
        teacher.load_policy(frame, player)
        returns = play_returns(player, judge, config.evaluation_episodes, seed=seed)
        teacher.snapshots.append(Snapshot(frame, returns))
        tqdm.write(f"step {frame}: mean return {teacher.snapshots[-1].mean:.1f}")

    total = config.total_frames or default_frames(config.env.name)
    with progress_bar(total=total, desc=f"{name} teacher", unit="step") as bar:
        model.learn(total, callback=SnapshotCallback(bar, config.snapshots, keep))
    recorded: list[list[Episode]] = env.get_attr("episodes")
    write_steps(folder / STEPS, recorded)
    teacher = _find_expert(teacher, player, judge, config.reference_episodes, seed)
    for made in (env, judge):
        made.close()
    return teacher


def _find_expert(teacher: Teacher, player: Model, judge: VecEnv, episodes: int, seed: int) -> Teacher:
    """Let the best snapshots play their most likely actions, and take the best of them for the expert."""

    def play(frame: int, seed: int) -> list[float]:
        teacher.load_policy(frame, player)
        return play_returns(player, judge, episodes, seed=seed, greedy=True)

    best = sorted(teacher.snapshots, key=lambda snapshot: -snapshot.mean)[:BEST]
    expert = max(
        (snapshot.frame for snapshot in best), key=lambda frame: (statistics.fmean(play(frame, seed + 1)), frame)
    )
    # Once more, on other starts: the episodes that chose it flatter it.
    return replace(teacher, expert=expert, expert_returns=play(expert, seed + 2))
