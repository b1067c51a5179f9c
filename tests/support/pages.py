"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(python|bash)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code.

    Args:
        language: ``python`` or ``bash``.
        text: its lines.
        comment: of the line before it, such as ``not run: REASON``, or empty.
        file: the file that it is to become, or empty.
    """

    language: str
    text: str
    comment: str
    file: str

    @property
    def runs(self) -> bool:
        """False if a comment says that it does not."""
        return not self.comment


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of Python and bash of a page."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, comment, rest.partition("file=")[2]) for comment, language, rest, text in found]


def python_blocks(page: Path) -> list[str]:
    """Return the Python of a page that runs."""
    return [block.text for block in read_blocks(page) if block.runs and block.language == "python"]


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command of a page that runs."""
    lines = [block.text.replace("\\\n", " ") for block in read_blocks(page) if block.runs and block.language == "bash"]
    return [shlex.split(line, comments=True) for text in lines for line in text.splitlines()]
