"""Options of an earlier form: read, or refused in one line that says which version wrote them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.configs import load
from torchrl_glam import __version__
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.folder import RunFolder, write_options
from torchrl_glam.runs.loading import read_config

RECORD = {"versions": {"torchrl_glam": "0.0.7"}, "git": {"commit": "e836967" + 33 * "0"}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that holds only its options."""
    write_options(tmp_path, load("preset=debug", "seed=3", f"run_dir={tmp_path}"))
    return tmp_path


def make_earlier(run: Path) -> None:
    """Give the options a name that this version lacks, and no mark of their own."""
    _, *lines = (run / "config.yaml").read_text().splitlines()
    (run / "config.yaml").write_text("\n".join([*lines, "horizons: 16"]))


def test_options_come_back_with_or_without_the_mark_of_a_version(run):
    text = (run / "config.yaml").read_text()
    assert text.startswith(f"# torchrl_glam {__version__}\n")
    assert read_config(run, trust=True).seed == 3
    (run / "config.yaml").write_text(text.partition("\n")[2])
    assert read_config(run, trust=True).seed == 3


@pytest.mark.parametrize(
    ("mark", "record", "wrote"),
    [
        ("", None, "an earlier version"),
        ("# torchrl_glam 0.0.5\n", None, "torchrl_glam 0.0.5"),
        ("", {"processes": [{}, RECORD]}, "torchrl_glam 0.0.7 (commit e836967)"),
        ("", {"processes": [{**RECORD, "git": None}]}, "torchrl_glam 0.0.7"),
        ("# torchrl_glam 0.0.5\n", {"processes": []}, "torchrl_glam 0.0.5"),
        ("", {"processes": 3}, "an earlier version"),
        ("", [], "an earlier version"),
    ],
)
def test_an_earlier_form_is_refused_with_the_version_that_wrote_it(run, mark, record, wrote):
    make_earlier(run)
    config = run / "config.yaml"
    config.write_text(mark + config.read_text())
    if record is not None:
        (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError) as refused:
        read_config(run, trust=True)
    line = str(refused.value)
    assert len(line.splitlines()) == 1
    assert f"Key 'horizons' not in 'GLAMConfig'): {wrote} wrote it, this is torchrl_glam {__version__}" in line


def test_a_run_of_an_earlier_form_is_not_resumed_but_named(run):
    make_earlier(run)
    (run / "run.json").write_text(json.dumps({"id": "one", "processes": [RECORD]}))
    options = load("preset=debug", "seed=3", f"run_dir={run}")
    wanted = "(horizons=16, now nothing), which torchrl_glam 0.0.7 (commit e836967) wrote, this is torchrl_glam"
    with pytest.raises(UsageError, match=re.escape(wanted)) as refused:
        RunFolder(options)
    assert len(str(refused.value).splitlines()) == 1


def test_many_differences_are_counted(run):
    lines = (run / "config.yaml").read_text().splitlines()
    (run / "config.yaml").write_text("\n".join([*lines, *(f"old_{number}: 1" for number in range(15))]))
    (run / "run.json").write_text(json.dumps({"id": "one", "processes": [RECORD]}))
    with pytest.raises(UsageError, match=r"old_4=1, now nothing; and 5 more\)"):
        RunFolder(load("preset=debug", "seed=3", f"run_dir={run}"))
