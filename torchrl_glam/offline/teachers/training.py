"""A teacher learns its task, and leaves a folder for datasets of every quality."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from gymnasium.spaces import Discrete
from tensordict import TensorDictBase
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, RandomPolicy
from tqdm import tqdm

from torchrl_glam.config.checks import check_values
from torchrl_glam.errors import UsageError, first_line
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.offline.teachers.config import Algorithm, NewDatasetConfig, Quality, TeacherConfig
from torchrl_glam.offline.teachers.playing import play_returns
from torchrl_glam.offline.teachers.ppo import PPOTeacher
from torchrl_glam.offline.teachers.recording import write_steps
from torchrl_glam.offline.teachers.sac import SACTeacher
from torchrl_glam.offline.teachers.snapshots import (
    POLICIES,
    STEPS,
    Snapshot,
    Teacher,
    teacher_options,
    write_policy,
    write_teacher,
)
from torchrl_glam.offline.teachers.tasks import check_task, default_algorithm, default_frames, make_task_env, round_up

BEST = 3  # snapshots that are played again to find the expert
EVALUATION_SEED = 1000  # added to the run's: evaluations never begin as the training does


def resolve_options(config: NewDatasetConfig, given: Iterable[str] = ()) -> None:
    """Fill in what the task decides: the algorithm and the length of the training.

    Args:
        config: the options.
        given: names of those that somebody asked for.

    Raises:
        UsageError: if the task cannot be learnt by the algorithm, a number is out of range, or an option means nothing.
    """
    check_values(config)
    for name, sizes in (("sac", config.sac), ("ppo", config.ppo)):
        if sizes.frames_per_batch % sizes.num_envs:
            raise UsageError(
                f"{name}.frames_per_batch={sizes.frames_per_batch} must be a multiple of "
                f"{name}.num_envs={sizes.num_envs}"
            )
    if config.ppo.batch_size > config.ppo.frames_per_batch:
        raise UsageError(
            f"ppo.batch_size={config.ppo.batch_size} must be at most ppo.frames_per_batch={config.ppo.frames_per_batch}"
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
            reason = "quality=replay alone" if name == "until" else f"teacher={unused[:-1]} alone"
            raise UsageError(f"{name} means something to {reason}: leave it out")


def make_teacher(config: TeacherConfig, env: EnvBase) -> PPOTeacher | SACTeacher:
    """A teacher that knows nothing yet, for environments like ``env``."""
    size, action_spec = env.observation_spec["observation"].shape[-1], env.full_action_spec_unbatched["action"]
    total = config.total_frames or default_frames(config.env.name)
    if config.teacher is Algorithm.ppo:
        return PPOTeacher(size, action_spec, total, config.ppo)
    return SACTeacher(size, action_spec, total, config.sac)


def train_teacher(config: TeacherConfig, folder: Path) -> Teacher:
    """Train a teacher and write its folder, which is there whole or not at all.

    Args:
        config: with :func:`resolve_options` behind it.
        folder: new.

    Raises:
        UsageError: if the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".teacher-", dir=folder.parent) as temporary:
            made = Path(temporary, "teacher")
            for part in (POLICIES, STEPS):
                (made / part).mkdir(parents=True)
            teacher = _train(config, made)
            write_teacher(teacher)
            os.replace(made, folder)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UsageError(f"teacher_dir={folder} cannot be written ({reason}): choose another folder") from error
    return replace(teacher, folder=folder)


def _train(config: TeacherConfig, folder: Path) -> Teacher:
    torch.manual_seed(config.seed)
    sizes = config.ppo if config.teacher is Algorithm.ppo else config.sac
    env = make_task_env(config.env.name, sizes.num_envs, config.seed)
    judge = make_task_env(config.env.name, min(8, config.evaluation_episodes), config.seed)
    learner = make_teacher(config, env)
    seed = config.seed + EVALUATION_SEED
    random_returns = play_returns(judge, RandomPolicy(judge.full_action_spec), config.reference_episodes, seed=seed)
    total = round_up(config.total_frames or default_frames(config.env.name), learner.frames_per_batch)
    collector = Collector(
        env,
        learner.actor,
        frames_per_batch=learner.frames_per_batch,
        total_frames=total,
        init_random_frames=learner.warmup_frames,
        exploration_type=ExplorationType.RANDOM,
        auto_register_policy_transforms=False,
    )
    snapshots: list[Snapshot] = []
    recorded: list[TensorDictBase] = []
    frame = 0
    with progress_bar(total=total, desc=f"{learner.name} teacher", unit="step") as bar:
        for batch in collector:
            learner.update(batch)
            recorded.append(batch)
            frame += batch.numel()
            bar.update(batch.numel())
            if frame >= min(total, math.ceil(total * (len(snapshots) + 1) / config.snapshots)):
                write_steps(folder / STEPS, frame, recorded)
                write_policy(folder, frame, learner.actor)
                recorded = []
                returns = play_returns(judge, learner.actor, config.evaluation_episodes, seed=seed)
                snapshots.append(Snapshot(frame, returns))
                tqdm.write(f"step {frame}: mean return {snapshots[-1].mean:.1f}")
    collector.shutdown()
    teacher = Teacher(folder, teacher_options(config), learner.name, random_returns, [], 0, snapshots)
    teacher = _find_expert(teacher, learner, judge, config.reference_episodes, seed)
    judge.close()
    return teacher


def _find_expert(
    teacher: Teacher, learner: PPOTeacher | SACTeacher, judge: EnvBase, episodes: int, seed: int
) -> Teacher:
    """Let the best snapshots play their most likely actions, and take the best of them for the expert."""
    best: tuple[float, int] | None = None
    for snapshot in sorted(teacher.snapshots, key=lambda snapshot: -snapshot.mean)[:BEST]:
        teacher.load_policy(snapshot.frame, learner.actor)
        returns = play_returns(judge, learner.actor, episodes, seed=seed + 1, greedy=True)
        candidate = (sum(returns) / len(returns), snapshot.frame)
        best = candidate if best is None else max(best, candidate)
    assert best is not None
    teacher.load_policy(best[1], learner.actor)  # and once more: the episodes that chose it flatter it
    returns = play_returns(judge, learner.actor, episodes, seed=seed + 2, greedy=True)
    return replace(teacher, expert=best[1], expert_returns=returns)
