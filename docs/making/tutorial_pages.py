"""Tutorials: scripts in the percent format of jupytext, run, as pages with what they print, and as notebooks."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import sys
from pathlib import Path
from typing import Any

import jupytext


def make(path: Path) -> dict[str, str | bytes]:
    """Return the files that a tutorial becomes, by their names: the page and the notebook."""
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.writes(jupytext.reads(text, "py:percent"), "ipynb")
    return {f"{path.stem}.md": render(text, path.stem), f"{path.stem}.ipynb": notebook}


@functools.cache
def render(text: str, name: str) -> str:
    """Run a script, cell by cell, and return it as a page: texts, code, what the code prints and draws."""
    parts, variables = [], dict[str, Any](__name__="__main__")
    for cell in jupytext.reads(text, "py:percent").cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        printed = run_cell(cell.source, variables)
        parts.append(f"```python\n{cell.source}\n```")
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```")
        parts += drawn()
    parts.append(f"This page as a notebook: [{name}.ipynb]({name}.ipynb).")
    return "\n\n".join(parts) + "\n"


def run_cell(source: str, variables: dict[str, Any]) -> str:
    """Run a cell with the variables of those before it; return what it wrote to stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as written:
        exec(compile(source, "<tutorial>", "exec"), variables)
    return written.getvalue()


def drawn() -> list[str]:
    """Return matplotlib's open figures as images within the page, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    images = []
    for number in pyplot.get_fignums() if pyplot else ():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=110, bbox_inches="tight")
        pyplot.close(number)
        encoded = base64.b64encode(file.getvalue()).decode()
        images.append(f'<img alt="what the cell above draws" src="data:image/png;base64,{encoded}">')
    return images
