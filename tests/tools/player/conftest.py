"""A run to play in: untrained networks whose every parameter matters, CatchBall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.saved import save_run
from torchrl_glam.runs.loading import LoadedRun, load_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player") / "run"
    save_run(folder)
    return folder


@pytest.fixture
def make_run(tmp_path: Path, run_folder: Path, shake: Callable[..., Any]) -> Callable[..., LoadedRun]:
    """A function that loads a run of these options; no end is ever predicted."""

    def make(*overrides: str) -> LoadedRun:
        folder = tmp_path / "run" if overrides else run_folder
        if overrides:
            save_run(folder, *overrides)
        run = load_run(folder, trust=True)
        for network in (run.world_model, run.actor, run.critic):
            if network is not None:
                shake(network)
        run.world_model.termination_head.logit.bias.data.fill_(-100.0)
        return run

    return make
