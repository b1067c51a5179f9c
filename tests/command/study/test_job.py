"""A worker of a study whose process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from omegaconf import OmegaConf

from torchrl_glam.command.study import job
from torchrl_glam.command.study.job import Job, Process
from torchrl_glam.config import Device, GLAMConfig


@pytest.fixture
def study(monkeypatch):
    """A process that stands for the study's; what a worker does to itself is an exception here."""

    def exit_(status):
        raise SystemExit(f"the worker ends with {status}")

    monkeypatch.setattr(job, "LOOK", 0.05)
    monkeypatch.setattr(os, "_exit", exit_)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def make_job(run, process, folder):
    watched = Process(process.pid, psutil.Process(process.pid).create_time())
    return Job(run, GLAMConfig, str(folder), os.getcwd(), parallel=True, on_gpu=False, study=watched)


def test_a_worker_ends_within_seconds_of_the_studys_process(study, tmp_path):
    saved = []

    def run(options):
        asked = []
        before = signal.signal(signal.SIGTERM, lambda *_: asked.append(True))  # a run's handler, which saves it
        study.kill()
        while not asked:
            time.sleep(0.01)
        signal.signal(signal.SIGTERM, before)
        saved.append(options.run_dir)

    options = OmegaConf.create({"run_dir": "a", "device": Device.cpu})
    began = time.monotonic()
    with pytest.raises(SystemExit, match="the worker ends with 1"):
        make_job(run, study, tmp_path)(options)
    assert saved == ["a"]
    assert time.monotonic() - began < 10


def test_a_worker_whose_study_lives_returns(study, tmp_path):
    worked = make_job(lambda options: time.sleep(0.2), study, tmp_path)
    assert worked(OmegaConf.create({"run_dir": "a", "device": Device.cpu})).state is job.State.finished


def test_a_process_is_not_mistaken_for_another(study):
    this = Process(study.pid, psutil.Process(study.pid).create_time())
    assert this.is_alive()
    assert not Process(this.number, this.began - 1).is_alive()
    study.kill()
    study.wait()
    assert not this.is_alive()
