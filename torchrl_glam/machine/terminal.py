"""Progress bars on a terminal or in a log file, lines of several runs on one terminal, durations."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO

from tqdm import tqdm


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
        self._stream, self._label, self._begun = stream, label, ""

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
