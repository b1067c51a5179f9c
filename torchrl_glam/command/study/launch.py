"""The process of a study: it plans the runs, has a Hydra launcher run the unfinished ones, and sums up."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from torchrl_glam.command.explain import SHORT_ERRORS, explain, reading_options
from torchrl_glam.command.study.job import STOP, Job, Outcome, Process, State, print_line
from torchrl_glam.command.study.plan import PlannedRun, plan_runs
from torchrl_glam.config import Device
from torchrl_glam.config.quoting import quote_override
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.runs.folder import RunFolder
from torchrl_glam.runs.stop import LOOK

if TYPE_CHECKING:
    from torchrl_glam.command.cli import Command

RAY_LINES = 1.0  # seconds until the last lines of Ray's workers are here
ON_THIS_MACHINE = ("joblib", "submitit_local")  # launchers whose workers are its processes; Ray ends its own
BASIC = "basic"  # Hydra's own launcher: one run after the other, in this process


def run_study(command: Command[Any], arguments: list[str]) -> int:
    """Run the unfinished runs of a study, and return its exit status.

    The same arguments name the same runs in the same folders: finished ones are skipped, others resume from their
    checkpoints. An error in one run does not affect the others.

    Args:
        command: the command, without options.
        arguments: overrides as Hydra knows them, of which some are lists to sweep over.

    Raises:
        UsageError: if two runs that differ would share a folder.
        HydraException: if the options cannot be read.
    """
    with initialize_config_dir(str(command.config_dir), job_name=Path(sys.argv[0]).stem, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        given = [*arguments, "hydra.mode=MULTIRUN"]
        with reading_options():
            options = hydra.compose_config(command.config_name, given, RunMode.MULTIRUN, with_log_configuration=False)
            folder, runs = plan_runs(options, hydra.config_loader, command.schema)
        with read_write(options), open_dict(options):
            options.hydra.sweep.dir = folder
            options.hydra.overrides.hydra.append(quote_override("hydra.sweep.dir", folder))  # for each run's own
        return Study(command, folder, runs, options).run(HydraContext(hydra.config_loader, Callbacks(options)))


class Study:
    """The runs of one study.

    Args:
        command: its schema is a :class:`~torchrl_glam.config.RunConfig`.
        folder: the study's.
        runs: all of them.
        options: of the study, Hydra's own among them.
    """

    def __init__(self, command: Command[Any], folder: str, runs: list[PlannedRun], options: DictConfig) -> None:
        self.command, self.folder, self.runs, self.options = command, folder, runs, options
        choices = options.hydra.runtime.choices
        self.launcher = str(choices["hydra/launcher"])
        self.parallel = self.launcher != BASIC
        self.stop = Path(folder, STOP)
        self.outcomes = {run.label: self._fail(run) for run in runs if run.error is not None}

    def run(self, context: HydraContext) -> int:
        """Run the unfinished runs, and return the exit status.

        Raises:
            UsageError: if the runs at once would be as many as cores, on one GPU.
        """
        self.stop.unlink(missing_ok=True)
        left = [run for run in self.runs if run.error is None and not self._is_finished(run, say=True)]
        self._check_share(left)
        total, before = len(self.runs), self._count(State.finished)
        print_line(f"study: {total} runs, {before} of them finished before | launcher {self.launcher} | {self.folder}")
        interrupted = died = False
        try:
            if left and self.launcher == "ray":
                start_ray(self.options)
            with self._stoppable():
                for outcome in self._launch(context, left) if left else ():
                    self.outcomes[outcome.label] = outcome
        except KeyboardInterrupt:
            interrupted = True
        except Exception:  # a worker that died, or a launcher that could not start
            if died := not self.stop.exists():
                traceback.print_exc()
        if left and self.launcher == "ray":
            time.sleep(RAY_LINES)
        lost = [run for run in left if run.label not in self.outcomes and not self._is_finished(run)]
        for run in lost if died else ():
            line = f"launcher {self.launcher} gave up before it had ended: see above; the same command resumes it"
            self.outcomes[run.label] = Outcome(run.label, State.failed, line, status=1)
        return self._sum_up(interrupted)

    def _check_share(self, runs: list[PlannedRun]) -> None:
        """Raise UsageError where joblib would start a run on each core, and these share one GPU."""
        on_gpu = [run for run in runs if run.options is not None and run.options.device is not Device.cpu]
        if self.launcher != "joblib" or len(on_gpu) < 2 or not torch.cuda.is_available():
            return
        if (at_once := self.options.hydra.launcher.n_jobs) is None or at_once < 0:
            raise UsageError(
                f"study=joblib starts a run on each core (n_jobs={at_once}), and {len(on_gpu)} runs share a GPU here: "
                "say how many it holds, hydra.launcher.n_jobs=2 (--check tells what one needs), or give device=cpu"
            )

    def _is_finished(self, run: PlannedRun, *, say: bool = False) -> bool:
        """Return True, and record it, for a run that this machine knows to be finished."""
        assert run.options is not None
        if not Path(run.options.run_dir).exists():
            return False
        try:
            RunFolder(self.command.read(run.options, run.overrides)).release()
        except Stopped as finished:
            if say:
                print_line(f"{run.label}: {finished}")
            self.outcomes[run.label] = Outcome(run.label, State.finished)
            return True
        except SHORT_ERRORS:  # its job will report them
            pass
        return False

    def _launch(self, context: HydraContext, runs: list[PlannedRun]) -> list[Outcome]:
        command = self.command
        job = Job(
            command.run,
            command.schema,
            folder=self.folder,
            home=os.getcwd(),
            parallel=self.parallel,
            on_gpu=self.launcher != "submitit_slurm" and torch.cuda.is_available(),
            study=Process.this() if self.launcher in ON_THIS_MACHINE else None,
        )
        paths = [sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # workers import the same modules as the script
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=job, config=self.options
        )
        returns = launcher.launch([run.overrides for run in runs], initial_job_idx=0)
        return [each.return_value for each in returns]

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM ask the workers' runs to save themselves; a second one ends this process."""
        if not self.parallel:
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.stop.exists():
                raise KeyboardInterrupt
            self.stop.touch()
            print_line("study: stops when each run has saved itself; once more to stop at once")

        self.stop.parent.mkdir(parents=True, exist_ok=True)
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with keep_from_workers(signal.SIGINT):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, state: State) -> int:
        return sum(outcome.state is state for outcome in self.outcomes.values())

    def _fail(self, run: PlannedRun) -> Outcome:
        assert run.error is not None
        return Outcome(run.label, State.failed, explain(run.error, self.command.schema), status=2)

    def _sum_up(self, interrupted: bool) -> int:
        """Print a line for each run that failed, and one for the study; return the exit status."""
        failed = [outcome for outcome in self.outcomes.values() if outcome.state is State.failed]
        for outcome in failed:
            sys.stderr.write(f"error: {outcome.label}: {outcome.line}\n")
        done = self._count(State.finished)
        summary = f"{done} of {len(self.runs)} runs finished in {self.folder}"
        if done + len(failed) < len(self.runs):
            print_line(f"study: stopped; {summary}. Resume with the same command")
        else:
            command, argument = self.command.schema.COMPARE
            compare = f"{other_command(command)} {argument.format(folder=shlex.quote(self.folder))}"
            print_line(f"study: {summary}; compare: {compare}")
        with contextlib.suppress(OSError):
            self.stop.unlink()
        return max([int(interrupted), *(outcome.status for outcome in failed)])


@contextlib.contextmanager
def keep_from_workers(number: signal.Signals) -> Iterator[None]:
    """Keep a signal of the terminal from workers that are started meanwhile: only this process gets it, as SIGTERM.

    An idle worker of joblib (1.5) dies of SIGINT, whereupon the others are killed while they save.
    """
    for module in ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker"):
        with contextlib.suppress(ImportError):
            import_module(module).ensure_running()  # if started later, they would unblock the signal
    over = threading.Event()

    def hand_on() -> None:
        while not over.is_set():
            if signal.sigtimedwait({number}, LOOK) is not None:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    thread = threading.Thread(target=hand_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_ray(options: DictConfig) -> None:
    """Start or join Ray before its launcher would, because its start replaces the study's handler of SIGTERM."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # read at import; else it drops equal lines of two runs
    import ray

    init: Any = OmegaConf.to_container(options.hydra.launcher.ray.init, resolve=True)
    ray.init(**init)
