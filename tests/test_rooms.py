"""The package's rooms, which its own import leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import torchrl_glam
from tests.support.paths import ROOT


def test_a_room_is_imported_at_its_first_use():
    code = "import sys, torchrl_glam; print('torch' in sys.modules, torchrl_glam.errors.UsageError.__name__)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout == "False UsageError\n"


def test_every_room_is_one():
    paths = [path for path in Path(torchrl_glam.__file__).parent.iterdir() if not path.name.startswith(("_", "."))]
    rooms = {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms <= set(dir(torchrl_glam))
    assert torchrl_glam.modules.MambaBlock.__name__ == "MambaBlock"
    with pytest.raises(AttributeError, match="no attribute 'module'"):
        torchrl_glam.module  # noqa: B018
