"""Docstrings for the site: Sphinx's roles become code, as ``:class:`GLAMPolicy``` does."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Roles(griffe.Extension):
    """Replace ``:class:`~package.Name``` and the like by the name."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Change the docstring in place."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r":(?:class|meth|func|mod|data|attr):`~?([^`]+)`", r"`\1`", obj.docstring.value
            )
