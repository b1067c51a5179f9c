"""The one error that a user can cause and mend."""

from __future__ import annotations


class UsageError(ValueError):
    """Bad input: one line that says what came, what was wanted and what to do.

    The command line prints the message without a traceback and exits with status 2; library users can catch it as a
    ``ValueError``.
    """
