"""Output that nobody reads ends nothing, and files do not get what was meant for it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from torchrl_glam.machine.terminal import LabelledLines, OptionalOutput, optional_output

PRINTS = """
import os, sys
from torchrl_glam.machine.terminal import optional_output, progress_bar

with optional_output():
    with open(sys.argv[1], "w") as file:
        with progress_bar(total=3) as bar:
            for step in range(3):
                print("a line of output " * 1000, flush=True)
                print("a line of errors", file=sys.stderr, flush=True)
                bar.update()
        os.system("echo from a library; echo from a library >&2")
        file.write("finished")
"""
SHELLS = {
    "read": "{} > /dev/null",
    "a closed pipe": "{} | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}",
    "full": "{} > /dev/full",
    "all full": "{} > /dev/full 2> /dev/full",
    "closed": "{} >&-",
    "all closed": "{} >&- 2>&- <&-",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_to_its_end_whatever_becomes_of_its_output(shell, tmp_path):
    out = tmp_path / "out"
    command = SHELLS[shell].format(f'"{sys.executable}" -c "$PRINTS" "$OUT"')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PRINTS": PRINTS, "OUT": str(out)}
    ran = subprocess.run(["bash", "-c", command], env=environment, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Exception" not in ran.stderr
    assert out.read_text() == "finished"


class Failing(io.StringIO):
    """A stream that fails as often as it is told to."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def write(self, text: str) -> int:
        if self.numbers:
            raise OSError(self.numbers.pop(0), "failed")
        return super().write(text)


def test_a_disk_that_was_full_is_written_to_again():
    stream = Failing(errno.ENOSPC, errno.EIO)
    output = OptionalOutput(stream)
    assert [output.write(text) for text in ("one", "two", "three")] == [3, 3, 5]
    assert stream.getvalue() == "three"
    stream.close()
    output.write("four")
    output.flush()


def test_a_name_that_the_terminal_cannot_show_is_shown_as_it_can(tmp_path: Path):
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        OptionalOutput(file).write("runs/größe \udcff\n")
    assert (tmp_path / "log").read_text() == "runs/gr\\xf6\\xdfe \\udcff\n"


def test_lines_of_a_worker_are_optional_too():
    lines = LabelledLines(Failing(errno.EPIPE), "seed0")
    print("one\ntwo", file=lines)


def test_the_streams_are_put_back():
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit), optional_output():  # noqa: PT012
        assert isinstance(sys.stdout, OptionalOutput)
        sys.exit(2)
    assert (sys.stdout, sys.stderr) == before
