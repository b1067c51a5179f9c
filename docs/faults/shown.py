"""Run the functions of a script, each of which returns True while the fault that its docstring names is there."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RL_WARNINGS", "False")


def verdict(show: Callable[[], bool]) -> str:
    """Return ``there``, ``mended``, or the error of a library that no longer works like that."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "there" if show() else "mended"
        except Exception as error:
            return f"changed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]


def main(script: dict[str, Any]) -> None:
    """Print the verdict of each function of ``script``, or of those that the command line names."""
    faults = {name: value for name, value in script.items() if getattr(value, "__module__", "") == "__main__"}
    for name, show in faults.items():
        if callable(show) and show.__doc__ and not isinstance(show, type) and (len(sys.argv) == 1 or name in sys.argv):
            print(f"{name:36} {verdict(show)}", flush=True)
