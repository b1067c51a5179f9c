"""Options as text that Hydra and shells take as it is meant, for commands that are printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException


def quote_override(name: str, value: str) -> str:
    """Return ``name=value`` in quotes, so that Hydra takes any text as it is."""
    return f"{name}={QuotedString(value, Quote.single).with_quotes()}"


def write_override(name: str, value: str) -> str:
    """Return ``name=value`` for Hydra, in quotes only where it would read another value, or none.

    No value of a run's holds ``${``: :func:`~torchrl_glam.config.checks.check_values` refuses it.

    Examples:
        >>> from torchrl_glam.config.quoting import write_override
        >>> write_override("run_dir", "runs/a"), write_override("run_dir", "a,b"), write_override("run_dir", "7")
        ('run_dir=runs/a', "run_dir='a,b'", "run_dir='7'")
    """
    plain = f"{name}={value}"
    try:
        override = OverridesParser.create().parse_override(plain)
        if "$" not in value and not override.is_sweep_override() and override.value() == value:
            return plain
    except HydraException:
        pass
    return quote_override(name, value)


def resume_command(command: str, overrides: Iterable[str], run_dir: str) -> str:
    """Return the line for a shell that calls ``command`` with these options again, in the folder of its run.

    Args:
        command: its words, as a shell takes them.
        overrides: its options as they were given, ``name=value``; those that say where and whether it resumes go.
        run_dir: the run's folder.
    """
    kept = [override for override in overrides if not override.startswith(("run_dir=", "resume="))]
    return f"{command} {shlex.join([*kept, write_override('run_dir', run_dir)])}"
