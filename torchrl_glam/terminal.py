"""Progress bars: lively on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(**options: Any) -> tqdm:
    """A bar of ``tqdm`` on standard output, renewed twice a second; where that is no terminal, every half minute."""
    interval = 0.5 if sys.stdout.isatty() else 30.0
    return tqdm(file=sys.stdout, dynamic_ncols=True, mininterval=interval, maxinterval=2 * interval, **options)
