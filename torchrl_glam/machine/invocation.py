"""The commands by name, and the form in which the user calls them, for all lines that name one.

Who runs ``glam train`` is told of ``glam evaluate``, who runs ``python examples/glam_atari.py`` of
``python examples/evaluate.py``.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from torchrl_glam.machine.folders import EXAMPLES

PROGRAMS = ("glam", "python -m torchrl_glam")


class Command(NamedTuple):
    """A command of ``glam``.

    Args:
        module: its ``main`` is called.
        line: its line in the page of ``glam --help``.
        flags: given before the user's own arguments.
        extra: the one of the package's that brings what it imports.
    """

    module: str
    line: str
    flags: tuple[str, ...] = ()
    extra: str = ""


def _example(name: str, line: str, *flags: str, extra: str = "") -> Command:
    return Command(f"torchrl_glam.examples.{name}", line, flags, extra)


COMMANDS = {
    "train": _example("glam_atari", "train GLAM on an environment, evaluate it; resume by the same command"),
    "estimate": _example("glam_atari", "look at machine and options, estimate the time, train nothing", "--check"),
    "evaluate": _example("evaluate", "play whole episodes by a run's policy, write their returns to a file"),
    "imagine": _example("imagine", "real, reconstructed and imagined frames of a run side by side, as a video"),
    "play": _example("play", "play in a run's environment and in its imagination, in the browser"),
    "diagnose": _example("diagnose", "what a run has learned and what not, and the options that affect it"),
    "export": _example("export", "a run as one safetensors file, or its frames as a Minari dataset"),
    "random": _example("random_play", "the score of random play, which the report compares runs with"),
    "baseline": _example(
        "baseline", "PPO, SAC or DQN of stable-baselines3 on an environment of vectors", extra="offline"
    ),
    "report": Command(
        "torchrl_glam.tools.report.__main__", "scores of runs with intervals, beside published methods", extra="report"
    ),
    "plot": _example("plot_returns", "the training returns of runs as a picture", extra="report"),
    "benchmark": _example("benchmark", "the cost of each part of a training step on this machine"),
    "offline dataset": _example(
        "make_offline_dataset", "train a teacher and record a dataset of its steps", extra="offline"
    ),
    "offline import": _example(
        "import_dqn_replay", "the DQN replay's files of an Atari game as a dataset, or a share of them", extra="offline"
    ),
    "offline train": _example(
        "mambadm_offline", "train MambaDM, or a model that it is compared with, on a dataset", extra="offline"
    ),
    "offline evaluate": _example(
        "evaluate_offline", "ask an offline run for other returns, or with another memory", extra="offline"
    ),
    "offline compare": _example("compare_offline", "tables and pictures of offline runs", extra="offline"),
    "offline memory": _example(
        "memory_lengths", "for how many tokens each branch of a trained MambaDM remembers", extra="offline"
    ),
    "offline benchmark": _example("benchmark_acting", "the cost of one action of offline models", extra="offline"),
}


def this_command() -> str:
    """Return what the user typed to start this process, without its options, for a shell."""
    return sys.argv[0] if calling_program() else shlex.join(["python", sys.argv[0]])


def other_command(name: str) -> str:
    """Return the words, for a shell, by which this user calls a command of :data:`COMMANDS`.

    Examples:
        >>> from torchrl_glam.machine.invocation import other_command
        >>> other_command("offline evaluate")
        'glam offline evaluate'
    """
    if program := calling_program():
        return f"{program} {name}"
    script, module = Path(sys.argv[0]), COMMANDS[name].module
    if script.resolve().parent == EXAMPLES and module.startswith("torchrl_glam.examples."):
        return shlex.join(["python", str(script.with_name(f"{module.rpartition('.')[2]}.py"))])
    return f"{PROGRAMS[0]} {name}"


def calling_program() -> str | None:
    """Return the one of ``PROGRAMS`` that called the command of this process, if any."""
    return next((program for program in PROGRAMS if sys.argv[0].startswith(f"{program} ")), None)
