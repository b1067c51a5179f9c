"""Real steps of a run to look at: steps it was trained on, or fresh ones.

``n`` steps, ``a`` action size, ``x`` numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.data.replay import OBSERVATIONS, select_record
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.terminal import progress_bar
from torchrl_glam.runs.checkpoint import read_records
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.runs.records import record_range, window_starts
from torchrl_glam.training.evaluation import make_step_collector


@dataclass
class RealSteps:
    """Consecutive steps of one environment, followed by those of the next one, if there are several.

    Args:
        observation: ``[n]``, in which the action was chosen: ``pixels`` uint8 ``[n h w c]``, a vector ``observation``
            ``[n x]``, or both.
        action: ``[n a]``.
        reward: ``[n]``, of the action.
        terminated: bool ``[n]``, true where a life or the episode was lost: the world model's termination.
        ends: bool ``[n]``, true where no step of the same episode and environment follows.
    """

    observation: TensorDictBase
    action: Tensor
    reward: Tensor
    terminated: Tensor
    ends: Tensor

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.reward)

    @property
    def begins(self) -> Tensor:
        """Bool ``[n]``, true where no step of the same episode and environment precedes."""
        return torch.cat([torch.ones_like(self.ends[:1]), self.ends[:-1]])

    @property
    def before(self) -> Tensor:
        """The number ``[n]`` of the step before each; where an episode begins, its own."""
        return torch.arange(len(self)) - (~self.begins).long()

    def starts(self, length: int) -> Tensor:
        """Return the first step of every window of ``length`` steps within one episode, ascending."""
        return window_starts(self.ends, length)


def join_steps(played: Sequence[TensorDictBase]) -> RealSteps:
    """Join the records ``[t]`` of each environment, which have the keys of the replay."""
    ends = []
    for episodes in played:
        over = episodes["next", "done"].flatten().clone()
        over[-1] = True
        ends.append(over)
    records: TensorDictBase = torch.cat(list(played))
    following = records["next"]
    return RealSteps(
        records.select(*OBSERVATIONS, strict=False),
        records["action"],
        following["reward"].flatten().float(),
        following["life_loss"].flatten(),
        torch.cat(ends),
    )


def read_steps(run: LoadedRun, number: int) -> RealSteps:
    """Read the newest ``number`` records of the run, which it was trained on.

    Raises:
        UsageError: if there are none, or a file is missing or damaged.
    """
    held, num_envs = record_range(run.folder), run.config.env.num_envs
    first = max(held.start, held.stop - number)
    first += -first % num_envs  # begin with the first environment
    records = read_records(run.folder, first, held.stop)
    return join_steps([records[env::num_envs] for env in range(num_envs)])


def play_steps(
    run: LoadedRun,
    number: int,
    seed: int,
    *,
    watch: Callable[[EnvBase, int, TensorDictBase], None] | None = None,
    progress: bool = False,
) -> RealSteps:
    """Play ``number`` new steps by the run's policy.

    Args:
        run: gives the environment and the policy.
        number: of steps.
        seed: of the environment, as in an evaluation of this seed.
        watch: called after each step with the environment, the step's number and its record.
        progress: show a progress bar.

    Raises:
        UsageError: if the run's ``env.name`` makes no environment.
    """
    config = run.config
    try:
        env = factory.make_evaluation_env(replace(config, seed=seed))
    except UsageError as error:
        raise UsageError(
            f"fresh={number}: env.name={config.env.name} makes no environment ({error}): leave fresh out"
        ) from error
    collector = make_step_collector(env, run.policy, total_frames=number)
    with progress_bar(total=number, desc="fresh", unit="step", disable=not progress) as bar:
        played = []
        for number_of_step, step in enumerate(collector):
            played.append(select_record(step).clone())
            if watch is not None:
                watch(env, number_of_step, played[-1])
            bar.update()
    collector.shutdown()
    return join_steps([torch.cat(played)])
