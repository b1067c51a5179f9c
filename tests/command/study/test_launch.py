"""A study of runs that finish, fail and are stopped: stand-ins for runs, with Hydra's own launcher."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from tests.support.paths import CONFIGS
from torchrl_glam.command.cli import Command
from torchrl_glam.command.study.job import STOP, Job, State
from torchrl_glam.command.study.launch import Study, run_study
from torchrl_glam.command.study.plan import PlannedRun
from torchrl_glam.config import Device, GLAMConfig
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.runs.folder import RunFolder
from torchrl_glam.runs.stop import StopNow, StopSignals


class Runs:
    """A stand-in for a run: by its seed it raises an error or finishes. Records the seeds that ran."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.errors: dict[int, BaseException] = {}

    def __call__(self, config: GLAMConfig) -> None:
        folder = RunFolder(config)
        self.ran.append(config.seed)
        try:
            folder.take()
            if config.seed in self.errors:
                raise self.errors[config.seed]
            (folder.path / "result.json").write_text(json.dumps({"total_frames": config.total_frames, "mean": 1.5}))
        finally:
            folder.release()


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def study(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function that runs a study of them in ``st`` and returns its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")  # to be put back
    command = Command(CONFIGS, "glam_atari", GLAMConfig, lambda *_: None, runs)
    return lambda *arguments: run_study(command, ["preset=debug", "hydra.sweep.dir=st", *arguments])


def test_a_study_that_is_finished_is_over_at_once(study, runs, capsys):
    assert study("seed=range(0,3)") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "study: 3 runs, 0 of them finished before | launcher basic | st"
    assert last == "study: 3 of 3 runs finished in st; compare: glam report st"
    assert study("seed=range(0,4)") == 0  # with one more
    assert runs.ran == [0, 1, 2, 3]
    passed, *_, first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("study: 4 runs, 3 of them finished before")
    assert passed.startswith(
        "ALE/Pong-v5/preset-debug-seed0: run_dir=st/ALE/Pong-v5/preset-debug-seed0 is finished: 160"
    )
    assert last.startswith("study: 4 of 4 runs")
    assert study("seed=0", "total_frames=320") == 0  # trains on
    assert runs.ran[-1] == 0


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (UsageError("seed=1 is odd"), "seed=1 is odd", 2),
        (FloatingPointError("not finite: loss_reward"), "not finite: loss_reward", 1),
        (KeyError("a bug"), "KeyError: 'a bug'", 1),
    ],
)
def test_a_run_that_fails_leaves_the_others_alone(study, runs, capsys, error, line, status):
    runs.errors[1] = error
    assert study("seed=range(0,3)") == status
    assert runs.ran == [0, 1, 2]
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith(f"error: ALE/Pong-v5/preset-debug-seed1: {line}")
    assert ("Traceback" in err) == isinstance(error, KeyError)
    assert out.splitlines()[-1].startswith("study: 2 of 3 runs finished in st; ")
    runs.errors.clear()
    assert study("seed=range(0,3)") == 0
    assert runs.ran == [0, 1, 2, 1]


def test_options_that_do_not_compose_fail_one_run(study, runs, capsys):
    assert study("seed=0,x,2") == 2
    assert runs.ran == [0, 2]
    assert capsys.readouterr().err.startswith("error: ALE/Pong-v5/preset-debug-seedx: ")


def test_a_signal_ends_the_study_and_the_same_command_goes_on(study, runs, capsys):
    runs.errors[1] = Stopped("stopped; saved at step 40 of 160", asked=True)
    assert study("seed=range(0,3)") == 0
    assert runs.ran == [0, 1]
    out = capsys.readouterr().out.splitlines()
    assert "stopped; saved at step 40 of 160" in out
    assert out[-1] == "study: stopped; 1 of 3 runs finished in st. Resume with the same command"
    runs.errors.clear()
    assert study("seed=range(0,3)") == 0
    assert runs.ran == [0, 1, 1, 2]


def test_a_launcher_that_dies_loses_what_it_did_not_tell(study, monkeypatch, capsys):
    launch = Study._launch

    def die(self: Study, context: HydraContext, runs: list[PlannedRun]) -> None:
        launch(self, context, runs[:1])
        raise RuntimeError("the last worker was killed")

    monkeypatch.setattr(Study, "_launch", die)
    assert study("seed=0,1,2") == 1
    out, err = capsys.readouterr()
    assert "RuntimeError: the last worker was killed" in err
    assert [line.split(": ")[1] for line in err.splitlines() if line.startswith("error: ")] == [
        f"ALE/Pong-v5/preset-debug-seed{seed}" for seed in (1, 2)
    ]
    assert out.splitlines()[-1].startswith("study: 1 of 3 runs finished")


def test_ctrl_c_before_a_run_can_save_itself(study, runs, capsys):
    runs.errors[0] = KeyboardInterrupt()
    assert study("seed=0,1") == 1
    assert runs.ran == [0]
    assert capsys.readouterr().out.splitlines()[-1].startswith("study: stopped; 0 of 2 runs finished")


@pytest.mark.parametrize(
    ("n_jobs", "device", "number", "refused"),
    [
        (-1, "auto", 2, True),
        (-2, "cuda", 2, True),
        (2, "auto", 2, False),
        (-1, "cpu", 2, False),
        (-1, "auto", 1, False),
    ],
)
def test_a_run_per_core_on_one_gpu_is_refused(tmp_path, monkeypatch, n_jobs, device, number, refused):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    choices = {"runtime": {"choices": {"hydra/launcher": "joblib"}}, "launcher": {"n_jobs": n_jobs}}
    options = OmegaConf.create({"hydra": choices})
    runs = [PlannedRun(f"{seed}", [], OmegaConf.create({"device": Device(device)})) for seed in range(number)]
    study = Study(Command(CONFIGS, "glam_atari", GLAMConfig, lambda *_: None, print), str(tmp_path), runs, options)
    if refused:
        with pytest.raises(UsageError, match=r"n_jobs=-\d.*2 runs share a GPU.*hydra.launcher.n_jobs=2"):
            study._check_share(runs)
    else:
        study._check_share(runs)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """A function that makes the job of a study in ``tmp_path`` whose runs do ``run``."""
    monkeypatch.setattr(StopSignals, "file", None)  # to be put back
    make = partial(Job, folder=str(tmp_path), home=os.getcwd(), parallel=True, on_gpu=False)
    return lambda run, **options: make(run, GLAMConfig, **options)


@pytest.fixture
def options(tmp_path: Path) -> DictConfig:
    return OmegaConf.create({"run_dir": str(tmp_path / "Pong" / "seed0"), "device": Device.auto})


def test_runs_side_by_side_write_lines_that_begin_with_their_name(job, options, capsys):
    def run(_: DictConfig) -> None:
        sys.stdout.write("one\ntwo\n")
        raise UsageError("no")

    outcome = job(run)(options)
    assert (outcome.label, outcome.state, outcome.line, outcome.status) == ("Pong/seed0", State.failed, "no", 2)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "Pong/seed0: one",
        "Pong/seed0: two",
        "Pong/seed0: failed, and the other runs continue: no",
    ]
    assert err == ""


def test_a_worker_that_is_kept_from_the_gpu_says_so(job, options, monkeypatch):
    ran = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "give device=cpu" in job(ran.append, on_gpu=True)(options).line
    options.device = Device.cpu
    assert job(ran.append, on_gpu=True)(options).state is State.finished
    assert len(ran) == 1


def test_the_studys_file_stops_a_run_and_keeps_others_from_starting(job, options, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    ran = []

    def run(_: DictConfig) -> None:
        ran.append(1)
        with StopSignals() as signals:
            threading.Timer(0.05, (tmp_path / STOP).touch).start()
            wait = time.monotonic() + 20
            while not signals.asked and time.monotonic() < wait:
                time.sleep(0.01)
        raise Stopped("saved", asked=signals.asked)

    try:
        assert job(run)(options).state is State.stopped
        assert job(run)(options).state is State.stopped
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ran == [1]


def test_submitits_signal_is_passed_on_when_the_run_has_saved_itself():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    queued = []
    try:
        signal.signal(signal.SIGUSR2, lambda number, _: queued.append(number))
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(0)
            assert signals.asked
            with pytest.raises(StopNow):
                signal.raise_signal(signal.SIGTERM)
        assert queued == []
        signals.pass_on()
        assert queued == [signal.SIGUSR2]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
