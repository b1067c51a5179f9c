"""One run of a study, in whatever process its launcher has for it."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch
from omegaconf import DictConfig

from torchrl_glam.errors import Stopped, UsageError, describe_error
from torchrl_glam.machine.terminal import LabelledLines
from torchrl_glam.runs.stop import StopSignals

STOP = ".stop"  # in the study's folder: the runs are to save themselves and end


class State(Enum):
    """How a run ended."""

    finished = "finished"
    stopped = "stopped"
    failed = "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of a run: of the one called ``label``, with a line on why it failed, and an exit status."""

    label: str
    state: State
    line: str = ""
    status: int = 0


@dataclass
class Job:
    """Runs what ``options`` say, and returns what became of it: an error would end the other runs too.

    Pickled for a launcher's workers, so that it holds nothing but plain values and functions.

    Args:
        run: one run, which raises what goes wrong.
        expected: errors that a user can cause.
        explain: one of these, in one line.
        folder: the study's.
        home: the working folder that relative paths are meant from.
        parallel: several runs write to one terminal, and the study's process stops them by a file.
        on_gpu: that process finds a GPU on this machine, as a run would that it ran itself.
    """

    run: Callable[[DictConfig], None]
    expected: tuple[type[Exception], ...]
    explain: Callable[[Exception], str]
    folder: str
    home: str
    parallel: bool
    on_gpu: bool
    stopped: bool = False

    def __call__(self, options: DictConfig) -> Outcome:
        """One run."""
        if os.getcwd() != self.home:
            os.chdir(self.home)
        if self.home not in sys.path:
            sys.path.append(self.home)  # for modules of the user's
        label = os.path.relpath(options.run_dir, self.folder)
        stop = Path(self.folder, STOP)
        if self.stopped or (self.parallel and stop.exists()):
            return Outcome(label, State.stopped)
        if not self.parallel:
            return self._attempt(options, label)
        StopSignals.file = stop
        with redirect_stdout(LabelledLines(sys.stdout, label)):
            return self._attempt(options, label)

    def _attempt(self, options: DictConfig, label: str) -> Outcome:
        try:
            self._check_gpu(options)
            self.run(options)
        except Stopped as stopped:
            print_line(str(stopped))
            self.stopped = stopped.asked
            return Outcome(label, State.stopped if stopped.asked else State.finished)
        except self.expected as error:
            line, status = self.explain(error), 1 if isinstance(error, FloatingPointError) else 2
        except KeyboardInterrupt:  # while it was being set up
            if not self.parallel:
                raise
            return Outcome(label, State.stopped)
        except Exception as error:  # a bug, which is no reason to end the others
            traceback.print_exc()
            line, status = describe_error(error), 1
        else:
            return Outcome(label, State.finished)
        with contextlib.suppress(OSError):
            print_line(f"{'' if self.parallel else f'{label}: '}failed, which the other runs do not mind: {line}")
        return Outcome(label, State.failed, line, status)

    def _check_gpu(self, options: DictConfig) -> None:
        """Raise UsageError where a launcher keeps the GPU from its workers, who would quietly take the CPU."""
        if self.on_gpu and options.device.value != "cpu" and not torch.cuda.is_available():
            raise UsageError(
                "this worker was given no GPU, and there is one: ask the launcher for it, "
                "hydra.launcher.ray.remote.num_gpus=1 or hydra.launcher.gpus_per_node=1, or give device=cpu"
            )


def print_line(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
