"""A run of GLAM: its first line, its real steps, its evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from tensordict import TensorDictBase
from torch import nn
from torchrl.data import OneHot, TensorDictReplayBuffer, TensorSpec
from torchrl.envs import EnvBase

from torchrl_glam.config import GLAMConfig
from torchrl_glam.envs import describe_observation
from torchrl_glam.machine.resources import device_name
from torchrl_glam.machine.terminal import duration
from torchrl_glam.modules import GLAMWorldModel, MambaBlock
from torchrl_glam.modules.one_hot_blocks import block_sizes
from torchrl_glam.modules.ssm import describe_backend
from torchrl_glam.runs.check import LONG, advise_on_time, and_evaluation
from torchrl_glam.runs.checkpoint import TrainedNetworks
from torchrl_glam.runs.initial import read_initial
from torchrl_glam.runs.progress import Pace
from torchrl_glam.runs.run import Run
from torchrl_glam.runs.summary import choices, describe_result, make_score
from torchrl_glam.training import Objective, episode_returns
from torchrl_glam.training.evaluation import Episode


class GLAMRun(Run):
    """A run whose steps are those of a real environment; its folder has also ``replay/`` and ``media/``.

    Args:
        config: the run's options.

    Raises:
        UsageError: as :class:`Run`, and if ``init_from`` has no weights; the folder is then not made.
    """

    SHOWN: ClassVar[dict[str, str]] = {
        "world_model/loss_reconstruction": "recon",
        "world_model/loss_reward": "reward",
        "world_model/kl_dynamics": "kl",
    }
    # Without tqdm's time left: the first steps, which have no updates, say nothing of it.
    BAR: ClassVar[str | None] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"

    def __init__(self, config: GLAMConfig) -> None:
        self._initial = read_initial(config)
        super().__init__(config)
        self.config = config
        self._pace = Pace()

    def announce(self, env: EnvBase, world_model: GLAMWorldModel, objective: Objective, seconds: float) -> None:
        """Print the first line: what runs where, its size, its time; ``seconds`` is an estimate for the whole run."""
        config, device = self.config, next(world_model.parameters()).device
        agent = nn.ModuleList(objective.networks.values())
        self.in_bar |= {f"policy/{metric}": name for metric, name in objective.shown.items()}
        swapped = [f"{option} {value}" for option, value in choices(config).items() if value not in ("none", "glam")]
        parts = [f"preset {config.preset}", *swapped]
        if any(isinstance(module, MambaBlock) for module in world_model.modules()):
            backend = getattr(config.world_model.dynamics, "backend", "auto")
            parts.append(f"scan {describe_backend(backend, device)}")
        self.begin(
            device,
            f"{config.env.name} ({_actions(env.action_spec_unbatched)}, protocol {config.env.protocol.value}) | "
            f"{describe_observation(env)} (env.observation={config.env.observation.value}) | "
            f"device {device_name(device)} | {' | '.join(parts)} | "
            f"world model {_millions(world_model)}, agent {_millions(agent)} parameters | "
            f"{config.total_frames} frames, about {duration(seconds)}{and_evaluation(config)} | {config.run_dir}",
        )
        if seconds > LONG:
            self.write(f"warning: about {duration(seconds)} on this machine: {advise_on_time(config)}")

    def resume(self, networks: TrainedNetworks, replay: TensorDictReplayBuffer | None, **parts: Any) -> None:
        """Resume as :meth:`Run.resume` does; a run without a checkpoint begins with the weights of ``init_from``.

        Raises:
            UsageError: also if ``init_from`` has no weights that fit.
        """
        super().resume(networks, replay, **parts)
        if self._initial is not None:
            self.write(self._initial.copy_to(networks.networks, parts["policy"].objective.losses))

    def collect(self, collector: Iterable[TensorDictBase]) -> Iterator[tuple[range, TensorDictBase]]:
        """Number the collector's real steps as :meth:`track` does, and log the returns of episodes that end.

        Yields:
            The numbers of the steps in a batch, one for each environment, and the batch.
        """
        for frames, step in self.track(collector, TensorDictBase.numel):
            for episode_return in episode_returns(step):
                self.log(frames[-1], {"train/episode_return": episode_return})
                self.progress.add_return(episode_return)
            yield frames, step

    def log_updates(self, frame: int) -> None:
        """Log as :meth:`Run.log_updates`; correct the estimate of the time by what updates have taken."""
        first = not self.timed
        if (seconds := self._pace.seconds_left(frame, self.config.total_frames)) is not None:
            self.timed = {"left": duration(seconds)}
            if first:
                left = f"about {duration(seconds)} left{and_evaluation(self.config)}"
                self.write(f"{left}, by the time that updates take here")
        super().log_updates(frame)

    def finish(self, played: Sequence[Episode]) -> None:
        """Log and print the evaluation, write the final weights and the result.

        Args:
            played: episodes of the evaluation.
        """
        config, total = self.config, self.progress.seconds()
        score = "none, evaluation.episodes=0"
        if played:
            score = str(made := make_score(config, played))
            self.log(config.total_frames, {"evaluation/return": made.mean})
        result = describe_result(
            config,
            played,
            total_frames=self.progress.frame,
            device=self.device_name,
            seconds=self.training_seconds,
            evaluation_seconds=total - self.training_seconds,
        )
        self.end(result, f"evaluation: {score} | {duration(total)} | {self.folder}")


def _actions(spec: TensorSpec) -> str:
    if isinstance(spec, OneHot):  # MultiOneHot too
        return f"{' x '.join(map(str, block_sizes(spec)))} actions"
    return "1 continuous action" if spec.shape[-1] == 1 else f"{spec.shape[-1]} continuous actions"


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"
