"""Output that may go unread, progress bars on a terminal or in a file, lines of several runs, durations."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN)  # errors that may pass


class OptionalOutput:
    """A stream that takes text and raises no errors: text that cannot be written is dropped.

    Where nobody will ever read it (a closed pipe, a lost terminal), its descriptor is turned to the null device: so
    Python's last flush finds no error either.

    Args:
        stream: to be written to; what is not defined here is its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            self._try(lambda: self._stream.write(text))
        except UnicodeEncodeError:  # a folder's name on a terminal that knows ASCII only
            encoding = self._stream.encoding or "ascii"
            self._try(lambda: self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding)))
        return len(text)

    def flush(self) -> None:
        """Write what is waiting, or drop it."""
        self._try(self._stream.flush)

    def close(self) -> None:
        """Write what is waiting, or drop it for good; the stream itself stays open."""
        self._try(self._stream.flush, full=())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, act: Callable[[], object], full: tuple[int, ...] = FULL) -> None:
        try:
            act()
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: it was closed
            if getattr(error, "errno", None) not in full:
                self._turn_away()

    def _turn_away(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextlib.contextmanager
def optional_output() -> Iterator[None]:
    """Let a command run on where nobody reads its output: closed pipes, a full disk, a terminal that is gone.

    Standard descriptors that are closed are opened, so that no file of the command takes their numbers and gets what
    libraries write to them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as null:
        made = [OptionalOutput(stream or null) for stream in before]
        sys.stdout, sys.stderr = made
        try:
            yield
        finally:
            for stream in made:
                stream.close()
            sys.stdout, sys.stderr = before


class LabelledLines(io.TextIOBase):
    """Whole lines, each after a label, on a stream that other processes write to.

    Where it is standard output, :func:`progress_bar` shows no bar.

    Examples:
        >>> import sys
        >>> lines = LabelledLines(sys.stdout, "ALE/Pong-v5/seed0")
        >>> for part in ("evaluation: ", "-21", "\\nfinished\\n"):
        ...     _ = lines.write(part)
        ALE/Pong-v5/seed0: evaluation: -21
        ALE/Pong-v5/seed0: finished
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label, self._begun = OptionalOutput(stream), label, ""

    def write(self, text: str) -> int:
        """Write the lines that ``text`` completes, in one piece."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._label}: {line}\n" for line in lines))
            self._stream.flush()
        return len(text)


def progress_bar(**options: Any) -> tqdm:
    """Make a bar of ``tqdm`` on standard output, renewed twice a second; every 30 s where that is no terminal."""
    interval = 0.5 if sys.stdout.isatty() else 30.0
    options["disable"] = options.get("disable", False) or isinstance(sys.stdout, LabelledLines)
    return tqdm(file=sys.stdout, dynamic_ncols=True, mininterval=interval, maxinterval=2 * interval, **options)


def duration(seconds: float) -> str:
    """Return seconds, minutes, hours or days in words, rounded as an estimate is.

    Examples:
        >>> from torchrl_glam.machine.terminal import duration
        >>> duration(61), duration(3000), duration(40_000)
        ('61 s', '50 min', '11.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
