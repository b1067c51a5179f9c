"""Docstrings for the site: Sphinx's roles become code, and arguments that share a text get a line each."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|meth|func|mod|data|attr):`~?([^`]+)`")
SHARED = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class Roles(griffe.Extension):
    """Change the docstrings of all objects in place."""

    def on_instance(self, *, obj: griffe.Object, **others: Any) -> None:
        """Replace ``:class:`~package.Name``` by the name, and ``a, b: text`` by a line for each."""
        if obj.docstring:
            head, args, rest = ROLE.sub(r"`\1`", obj.docstring.value).partition("Args:\n")
            section, end, rest = rest.partition("\n\n")
            obj.docstring.value = f"{head}{args}{SHARED.sub(each, section)}{end}{rest}"


def each(shared: re.Match[str]) -> str:
    """Return a line for each of the arguments that share a text."""
    return "\n".join(f"    {name}: {shared[2]}" for name in shared[1].split(", "))
