"""Checks that many commands share, and the lines that they raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchrl_glam.errors import UsageError, make_writable


def test_the_folder_of_an_output_is_made(tmp_path):
    path = tmp_path / "new" / "newer" / "out.json"
    assert make_writable("out", path) == path
    assert path.parent.is_dir()
    path.write_text("there already")
    assert make_writable("out", path) == path
    assert path.read_text() == "there already"


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^out=\S+/out.json cannot be written \((File exists|Not a directory)\)"):
        make_writable("out", tmp_path / "file" / "out.json")
    with pytest.raises(UsageError, match=r"^video=\S+ cannot be written \(it is a folder\): choose another file$"):
        make_writable("video", tmp_path)
    with pytest.raises(UsageError, match=r"cannot be written"):
        make_writable("out", Path("/proc/nothing/out.json"))
