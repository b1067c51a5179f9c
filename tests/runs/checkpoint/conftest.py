"""A run that was killed after its last step, and its command given in this process."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.support.killed_runs import EXAMPLE, OPTIONS, Finished, Ran, lines, outcome
from torchrl_glam.runs import estimate


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, like the runs in other processes, so that the numbers are equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(EXAMPLE), *OPTIONS, f"run_dir={folder}"])
        patch.setattr(estimate, "estimate_seconds", lambda *_: 1.0)
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    return Finished(folder, outcome(folder))


@pytest.fixture
def run_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that gives the run's command in this process, which saves the seconds that imports take."""
    monkeypatch.setattr(estimate, "estimate_seconds", lambda *_: 1.0)  # takes as long as the run itself

    def run(folder: Path | str, *options: str) -> Ran:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *OPTIONS, *options, f"run_dir={folder}"])
        capsys.readouterr()
        status = 0
        try:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        except SystemExit as exit:
            status = int(exit.code or 0)
        out, err = capsys.readouterr()
        return Ran(status, lines(out), lines(err))

    return run
