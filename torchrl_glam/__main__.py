"""``glam COMMAND key=value ...``, also ``python -m torchrl_glam``: each example, and the report, by a short name."""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (what a command imports takes seconds)

import argparse
import difflib
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import shtab

from torchrl_glam import __version__
from torchrl_glam.machine.folders import EXAMPLES
from torchrl_glam.machine.invocation import COMMANDS, PROGRAMS, Command, this_command
from torchrl_glam.machine.terminal import optional_output

COMPLETION = "--completion"


def main() -> None:
    """Call the command that is named with what follows its name, as its own file would."""
    program, given = PROGRAMS[Path(sys.argv[0]).name == "__main__.py"], sys.argv[1:]
    for number in (2, 1):
        name = " ".join(given[:number])
        if command := COMMANDS.get(name):
            sys.argv = [f"{program} {name}", *command.flags, *given[number:]]
            return call(command)
    with optional_output():
        answer(program, given)


def answer(program: str, given: list[str]) -> None:
    """Print what is asked for, the page if nothing is; end with one line for a command that does not exist."""
    first = given[0] if given else "--help"
    if first == "--version":
        sys.stdout.write(f"torchrl_glam {__version__}\n")
    elif first in ("-h", "--help", "help") or (first == "offline" and set(given[1:]) <= {"-h", "--help"}):
        sys.stdout.write(page(program))
    elif first == COMPLETION and given[1:2] and given[1] in shtab.SUPPORTED_SHELLS:
        sys.stdout.write(shtab.complete(make_parser(), given[1]))
    elif first == COMPLETION:
        fail(f"{COMPLETION} wants a shell: {program} {COMPLETION} {'|'.join(shtab.SUPPORTED_SHELLS)}")
    else:
        name = " ".join(given[: 1 + (first == "offline")])
        near = " or ".join(difflib.get_close_matches(name, COMMANDS, n=2))
        fail(f"there is no command {name}: {f'did you mean {near}?' if near else f'see {program} --help'}")


def call(command: Command) -> None:
    """Call the command's ``main``; end with one line if packages of its extra are missing."""
    try:
        module = import_module(command.module)
    except ImportError as error:
        if not command.extra:
            raise
        reason = str(error).partition(": pip install")[0]
        fail(f'{this_command()} cannot import all it needs ({reason}): pip install "torchrl_glam[{command.extra}]"')
    module.main()


def page(program: str) -> str:
    """Return the text of ``--help``: a line for each command."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "GLAM, a Mamba-based world model for TorchRL, and MambaDM, which learns decisions from recorded data.",
            f"\n{program} COMMAND key=value ...",
            *(f"  {name:{width}}{command.line}" for name, command in COMMANDS.items()),
            f"\n{program} COMMAND --help lists the options of a command. Each is a file, to read and to change, in",
            f"  {EXAMPLES}",
            f"Completion in the shell: {program} {COMPLETION} {'|'.join(shtab.SUPPORTED_SHELLS)} prints a script.\n",
        ]
    )


def make_parser() -> argparse.ArgumentParser:
    """Make the parser that shell completion is made of: the names of the commands, then files."""
    parser = argparse.ArgumentParser(prog=PROGRAMS[0])
    groups = {"": parser.add_subparsers()}
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            groups[group] = groups[""].add_parser(group, help="decisions from recorded data").add_subparsers()
        options = groups[group].add_parser(last, help=command.line).add_argument("options", nargs="*")
        options.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def fail(line: str) -> NoReturn:
    """End the process with one line on stderr."""
    sys.stderr.write(f"error: {line}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
