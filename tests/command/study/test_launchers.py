"""Whole studies by examples/glam_atari.py: the same numbers from every launcher, and nothing lost by Ctrl-C or a kill.

Run by name: `pytest -m slow tests/command/study/test_launchers.py`. Each launcher needs its extra.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.paths import EXAMPLES, ROOT

EXAMPLE = EXAMPLES / "glam_atari.py"
PLUGINS = {"joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}  # and the extra that brings each
ATARI = ["env.name=ALE/Pong-v5,ALE/Boxing-v5", "seed=0,1", "preset=debug"]
CATCH = ["env.name=tests.support.games:CatchBall-v0", "seed=0,1", "preset=debug", "checkpoint.every=10"]
RETURNS = "*/metrics/scalars/train/episode_return.csv"
OUTSIDE = ("seconds", "steps_per_second", "evaluation_seconds", "git")  # clocks, and a checkout that is worked on

pytestmark = pytest.mark.slow


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a study in ``folder/study``, in a group of processes of its own, as a terminal does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, str(EXAMPLE), "-m", "hydra.sweep.dir=study", *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)


def run(folder: Path, *options: str) -> str:
    """Run a study to its end; returns what it prints."""
    with start(folder, *options) as process:
        out, err = process.communicate(timeout=3600)
    assert process.returncode == 0, err
    return out


def read(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the result of each run of a study, and a hash of its weights."""
    studied = {}
    for path in sorted((folder / "study").rglob("result.json")):
        result = json.loads(path.read_text())
        weights = hashlib.sha256((path.parent / "weights.safetensors").read_bytes()).hexdigest()
        label = str(path.parent.relative_to(folder / "study"))
        studied[label] = {name: value for name, value in result.items() if name not in OUTSIDE}, weights
    return studied


def need(launcher: str) -> None:
    if find_spec(f"hydra_plugins.hydra_{PLUGINS[launcher]}_launcher") is None:
        pytest.skip(f'pip install "torchrl_glam[{PLUGINS[launcher]}]"')


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str, count: int) -> None:
    """Until so many files are there."""
    while len(list((folder / "study").glob(f"*/{pattern}"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], str]]:
    """The study by Hydra's own launcher, in one process."""
    folder = tmp_path_factory.mktemp("one_by_one")
    run(folder, *ATARI, "threads=1")
    return read(folder)


@pytest.mark.parametrize("launcher", PLUGINS)
def test_every_launcher_gives_the_same_results(launcher, one_by_one, tmp_path):
    need(launcher)
    out = run(tmp_path, f"study={launcher}", *ATARI).splitlines()
    assert out[-1] == "study: 4 of 4 runs finished in study; compare: glam report study"
    studied = read(tmp_path)
    labels = [f"ALE/{game}-v5/preset-debug-seed{seed}" for game in ("Boxing", "Pong") for seed in (0, 1)]
    assert list(studied) == labels
    assert len({weights for _, weights in studied.values()}) == 4
    assert studied == one_by_one
    assert all(result["device"] == "cpu (1 threads)" for result, _ in studied.values())
    if launcher != "submitit_local":  # whose workers write to files
        for label in labels:
            assert [f"{label}: " in line for line in out].count(True) == 2  # a first line, and the score


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, *CATCH, "threads=1")
    return read(folder)


def test_a_study_that_is_killed_goes_on(undisturbed, tmp_path):
    with start(tmp_path, *CATCH, "threads=1") as process:
        wait_for(process, tmp_path, "*-seed1/checkpoints/checkpoint-*", 1)
        process.kill()
    out = run(tmp_path, *CATCH, "threads=1")
    assert "is finished: 160 steps" in out
    assert "resumes from step" in out
    assert read(tmp_path) == undisturbed
    began = time.monotonic()
    assert "study: 2 runs, 2 of them finished before" in run(tmp_path, *CATCH, "threads=1")
    assert time.monotonic() - began < 300


@pytest.mark.parametrize("to", ["the terminal's processes", "the study's process"])
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_ctrl_c_saves_every_run(launcher, to, undisturbed, tmp_path):
    need(launcher)
    options = [*CATCH, f"study={launcher}", "checkpoint.every=1000", "checkpoint.minutes=0", "total_frames=160"]
    with start(tmp_path, *options) as process:
        wait_for(process, tmp_path, RETURNS, 2)  # both runs are under way, and have no checkpoint yet
        if to == "the study's process":
            process.send_signal(signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "study: stopped; 0 of 2 runs finished in study. Resume with the same command"
    assert len(list(tmp_path.glob("study/*/*/checkpoints/checkpoint-*"))) == 2
    assert run(tmp_path, *options).count("resumes from step") == 2
    assert read(tmp_path) == undisturbed


def test_a_job_that_runs_out_of_time_is_queued_again_and_goes_on(undisturbed, tmp_path):
    need("submitit_local")
    options = [*CATCH, "study=submitit_local", "checkpoint.every=1000", "checkpoint.minutes=0"]
    with start(tmp_path, *options) as process:
        wait_for(process, tmp_path, RETURNS, 2)
        workers = [
            each
            for each in psutil.Process(process.pid).children(recursive=True)
            if "submitit.core._submit" in each.cmdline()
        ]
        for worker in workers:
            worker.send_signal(signal.SIGUSR2)
        out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert len(workers) == 2
    assert out.splitlines()[-1].startswith("study: 2 of 2 runs finished")
    logs = "".join(path.read_text() for path in (tmp_path / "study" / ".submitit").rglob("*_log.out"))
    assert logs.count("resumes from step") == 2
    assert read(tmp_path) == undisturbed
