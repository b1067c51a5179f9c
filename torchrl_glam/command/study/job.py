"""One run of a study, in the process that its launcher has for it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import psutil
import torch
from omegaconf import DictConfig

from torchrl_glam.command.explain import SHORT_ERRORS, exit_status, explain
from torchrl_glam.errors import Stopped, UsageError, describe_error
from torchrl_glam.machine.terminal import LabelledLines
from torchrl_glam.runs.stop import StopSignals

STOP = ".stop"  # a file in the study's folder: the runs are to save themselves and end
LOOK = 0.5  # seconds between two looks at the study's process


class State(Enum):
    """The end of a run."""

    finished = "finished"
    stopped = "stopped"
    failed = "failed"


@dataclass(frozen=True)
class Outcome:
    """The end of the run called ``label``, with a line on why it failed, and an exit status."""

    label: str
    state: State
    line: str = ""
    status: int = 0


@dataclass(frozen=True)
class Process:
    """A process of this machine that is not mistaken for a later one of the same number."""

    number: int
    began: float

    @classmethod
    def this(cls) -> Process:
        """Return the process that asks."""
        return cls(os.getpid(), psutil.Process().create_time())

    def is_alive(self) -> bool:
        """Return False once it has ended, in whatever way."""
        try:
            process = psutil.Process(self.number)
            return process.create_time() == self.began and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass
class Job:
    """Runs with given options and returns the outcome, because an error would end the other runs too.

    Pickled for a launcher's workers, so that it holds only plain values and functions.

    Args:
        run: one run, which raises what goes wrong.
        schema: the dataclass of the options.
        folder: the study's.
        home: the working folder that relative paths are meant from.
        parallel: several runs write to one terminal, and the study's process stops them by a file.
        on_gpu: that process finds a GPU on this machine, as a run would that it ran itself.
        study: that process, if its workers are to end when it does: killed, it cannot tell them.
    """

    run: Callable[[DictConfig], None]
    schema: type[Any]
    folder: str
    home: str
    parallel: bool
    on_gpu: bool
    study: Process | None = None
    stopped: bool = False

    def __call__(self, options: DictConfig) -> Outcome:
        """Run once, unless the study is to stop."""
        if os.getcwd() != self.home:
            os.chdir(self.home)
        if self.home not in sys.path:
            sys.path.append(self.home)  # for the user's modules
        label = os.path.relpath(options.run_dir, self.folder)
        stop = Path(self.folder, STOP)
        if self.stopped or (self.parallel and stop.exists()):
            return Outcome(label, State.stopped)
        if not self.parallel:
            return self._attempt(options, label)
        StopSignals.file = stop
        with redirect_stdout(LabelledLines(sys.stdout, label)), self._end_with_study():
            return self._attempt(options, label)

    @contextlib.contextmanager
    def _end_with_study(self) -> Iterator[None]:
        """Once the study's process is gone, let the run save itself, and end this worker."""
        if self.study is None:
            yield
            return
        study, over = self.study, threading.Event()

        def watch() -> None:
            while not over.wait(LOOK):
                if not study.is_alive():
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()
            if not study.is_alive():
                os._exit(1)  # there is nobody to return to, and the worker would begin with the next run

    def _attempt(self, options: DictConfig, label: str) -> Outcome:
        try:
            self._check_gpu(options)
            self.run(options)
            return Outcome(label, State.finished)
        except Stopped as stopped:
            print_line(str(stopped))
            self.stopped = stopped.asked
            return Outcome(label, State.stopped if stopped.asked else State.finished)
        except SHORT_ERRORS as error:
            line, status = explain(error, self.schema), exit_status(error)
        except KeyboardInterrupt:  # while the run was being set up
            if not self.parallel:
                raise
            return Outcome(label, State.stopped)
        except Exception as error:  # a bug, which is no reason to end the others
            traceback.print_exc()
            line, status = describe_error(error), 1
        with contextlib.suppress(OSError):
            print_line(f"{'' if self.parallel else f'{label}: '}failed, and the other runs continue: {line}")
        return Outcome(label, State.failed, line, status)

    def _check_gpu(self, options: DictConfig) -> None:
        """Raise UsageError where a launcher keeps the GPU from its workers, which would silently take the CPU."""
        if self.on_gpu and options.device.value != "cpu" and not torch.cuda.is_available():
            raise UsageError(
                "this worker was given no GPU, and there is one: ask the launcher for it, "
                "hydra.launcher.ray.remote.num_gpus=1 or hydra.launcher.gpus_per_node=1, or give device=cpu"
            )


def print_line(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
