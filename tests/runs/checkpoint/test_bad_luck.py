"""Full and read-only disks, two processes in one folder, signals at any time, other options, a folder that moved."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.killed_runs import (
    ENVIRONMENT,
    OPTIONS,
    Finished,
    checkpoints,
    differences,
    lines,
    outcome,
    start,
    wait_until,
)

pytestmark = pytest.mark.long

SELDOM = "checkpoint.every=1000000"


@pytest.fixture
def half_done(finished: Finished, tmp_path: Path) -> Path:
    """The run, killed after step 30, with the checkpoints of steps 10 to 30."""
    folder = finished.copy_to(tmp_path / "run")
    for path in (*checkpoints(folder)[11:], folder / "media"):
        shutil.rmtree(path)
    return folder


def slow(*values: object) -> list[object]:
    """Parameters that are run by name."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def same(folder: Path, finished: Finished) -> bool:
    return differences(outcome(folder), finished.outcome) == []


def stop(process: subprocess.Popen[str], number: signal.Signals) -> float:
    """Send the signal; seconds until the process ends."""
    began = time.monotonic()
    process.send_signal(number)
    process.wait(60)
    return time.monotonic() - began


def trains(folder: Path) -> Callable[[], bool]:
    """Return a condition: the run has begun to update."""
    return lambda: (folder / "metrics/scalars/policy").exists()


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT, signal.SIGHUP)])
def test_a_signal_during_training_saves_and_the_command_it_prints_goes_on(number, finished, tmp_path):
    folder, log = tmp_path / "it's a run (1), lr=1e-4, größe", tmp_path / "log"
    process = start(folder, *OPTIONS, SELDOM, log=log)
    assert wait_until(trains(folder), process)
    assert stop(process, number) < 10
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    (saved,) = checkpoints(folder)
    last = lines(log.read_text())[-1]
    assert f"saved at step {int(saved.name.split('-')[1])} of 40" in last
    words = shlex.split(last.split("Resume with: ")[1])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated virtual environment
    again = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT, "PATH": path})
    assert (again.returncode, again.stderr) == (0, "")
    assert same(folder, finished)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.3, 1.0])
def test_an_impatient_user_stops_twice(delay, finished, tmp_path, run_again):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start(folder, *OPTIONS, "checkpoint.every=1", log=log)
    assert wait_until(lambda: len(checkpoints(folder)) > 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(delay)
    assert stop(process, signal.SIGINT) < 10
    assert "Traceback" not in log.read_text()
    assert process.returncode == 0, log.read_text()
    run_again(folder).check_done()
    assert same(folder, finished)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_start_up_loses_nothing(number, delay, half_done, finished, tmp_path, run_again):
    log = tmp_path / "log"
    process = start(half_done, *OPTIONS, SELDOM, log=log)
    time.sleep(delay)
    assert stop(process, number) < 10
    if delay > 5:  # before, Python itself is starting
        assert "Traceback" not in log.read_text()
    run_again(half_done)
    assert same(half_done, finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT)])
def test_a_signal_during_the_evaluation(number, half_done, finished, tmp_path, run_again):
    log = tmp_path / "log"
    process = start(half_done, *OPTIONS, "evaluation.episodes=100000", log=log)
    assert wait_until(lambda: "episode/s" in log.read_text(), process)
    assert stop(process, number) < 10
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "saved at step 40 of 40" in lines(log.read_text())[-1]
    assert not (half_done / "result.json").exists()
    run_again(half_done).check_done()
    assert same(half_done, finished)


@pytest.mark.slow
def test_a_signal_in_the_middle_of_an_update_that_takes_long(tmp_path):
    """Of the paper's size, on one thread: one update takes half a minute or more, most of it in long calls of torch."""
    folder, log = tmp_path / "run", tmp_path / "log"
    options = ["preset=paper", "env.name=ALE/Pong-v5", "total_frames=120", "training.warmup_frames=100"]
    process = start(folder, *options, "checkpoint.every=50", log=log)
    assert wait_until(lambda: len(checkpoints(folder)) == 2, process, timeout=900)
    time.sleep(10)
    assert stop(process, signal.SIGTERM) < 10
    assert process.returncode == 0, log.read_text()
    assert "saved at step 100 of 120" in log.read_text()
    assert "Traceback" not in log.read_text()


# Output.


class Unread(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def flush(self) -> None:
        self.write("")


def test_output_that_nobody_reads_ends_nothing(half_done, finished, run_again, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Unread())
        patch.setattr(sys, "stderr", Unread())
        run_again(half_done)
    assert (half_done / "result.json").exists()
    assert same(half_done, finished)


# Disks.


class Disk:
    """A small disk of its own, in main memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting a disk takes root")

    def remount(self, option: str) -> None:
        """Make it read-only (``ro``), or not (``rw``)."""
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=True, capture_output=True)

    @contextlib.contextmanager
    def filled(self, leave: int) -> Iterator[None]:
        """All of it but ``leave`` bytes taken."""
        filler = self.folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(self.folder).free - leave))
        yield
        filler.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.unmount()


def states(folder: Path) -> dict[str, bytes]:
    """The files of its checkpoints."""
    return {str(path): path.read_bytes() for path in folder.glob("checkpoints/checkpoint-*/**/*") if path.is_file()}


SIZES = (0, 4_096, 20_000, 60_000, 100_000, 150_000, 200_000, 300_000, 400_000, 600_000, 800_000, 1_200_000)


@pytest.mark.parametrize("leave", [300_000, *slow(*SIZES)])
def test_a_disk_that_fills_up_stops_the_run_and_spoils_nothing(leave, disk, half_done, finished, run_again):
    folder = shutil.copytree(half_done, disk.folder / "run")
    before = states(folder)
    with disk.filled(leave):
        full = run_again(folder)
        if full.status:  # else all of it fitted
            assert "No space left" in full.error
            assert str(folder) in full.error
            assert states(folder).items() >= before.items()
    assert full.status or leave > 300_000
    run_again(folder)
    assert same(folder, finished)


@pytest.mark.parametrize("leave", [0, *slow(*SIZES[1:])])
def test_a_run_that_begins_on_a_full_disk(leave, disk, finished, run_again):
    folder = disk.folder / "run"
    with disk.filled(leave):
        full = run_again(folder)
        if full.status:
            assert "No space left" in full.error
    run_again(folder)
    assert same(folder, finished)


def test_a_disk_that_may_not_be_written(disk, half_done, finished, run_again):
    folder = shutil.copytree(half_done, disk.folder / "run")
    disk.remount("ro")
    for where in (folder, disk.folder / "new"):
        line = run_again(where).error
        assert "cannot be written" in line
        assert str(where) in line
    disk.remount("rw")
    run_again(folder).check_done()
    assert same(folder, finished)


# Two processes.


def test_a_second_process_in_the_folder_is_refused_and_disturbs_nothing(finished, tmp_path, run_again):
    folder, log = tmp_path / "run", tmp_path / "log"
    first = start(folder, *OPTIONS, log=log)
    assert wait_until(lambda: len(checkpoints(folder)) > 3, first)
    first.send_signal(signal.SIGSTOP)  # so that it surely still runs
    line = run_again(folder).error
    first.send_signal(signal.SIGCONT)
    assert "in use by another process" in line
    assert str(folder) in line
    assert first.wait(120) == 0, log.read_text()
    assert same(folder, finished)


@pytest.mark.slow
def test_of_three_processes_that_start_at_once_one_runs(finished, tmp_path):
    folder = tmp_path / "run"
    logs = [tmp_path / str(number) for number in range(3)]
    processes = [start(folder, *OPTIONS, log=log) for log in logs]
    assert sorted(process.wait(600) for process in processes) == [0, 2, 2], [log.read_text() for log in logs]
    assert same(folder, finished)


# The same folder, another command or another place.


def files(folder: Path) -> dict[str, bytes]:
    """All of them."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_says_so_and_stays_as_it_is(finished, run_again):
    before = files(finished.folder)
    (line,) = run_again(finished.folder).check_done().out
    assert "finished" in line
    assert "40 steps" in line
    assert files(finished.folder) == before


def test_other_options_are_refused_with_the_list_of_differences(half_done, finished, run_again):
    before = files(half_done)
    line = run_again(half_done, "seed=1", "agent.hidden=16", "replay.batch_size=3", SELDOM).error
    for part in ("seed=0, now 1", "agent.hidden=8, now 16", "replay.batch_size=4, now 3", "resume=force"):
        assert part in line
    assert "every" not in line
    assert files(half_done) == before
    run_again(half_done, SELDOM, "evaluation.episodes=1", "training.keep_memory=false").check_done()
    assert same(half_done, finished)


def test_force_goes_on_with_other_options(half_done, run_again):
    forced = run_again(half_done, "agent.gamma=0.9", "resume=force").check_done()
    assert forced.resumed_from() == 30
    assert "gamma: 0.9\n" in (half_done / "config.yaml").read_text()


def test_force_with_options_that_cannot_fit_leaves_the_run_to_its_own(half_done, finished, run_again):
    line = run_again(half_done, "agent.hidden=16", "resume=force").error
    assert str(half_done) in line
    run_again(half_done).check_done()
    assert same(half_done, finished)


TRAIN_ON = {
    "plain": [],
    "overlapped": ["training.overlap=true"],
    "overlapped Pong": ["training.overlap=true", "env.name=ALE/Pong-v5"],
    "two environments": ["env.num_envs=2"],
    "Pong": ["env.name=ALE/Pong-v5", "replay.capacity=30"],
}


@pytest.mark.parametrize("kind", ["plain", *slow(*list(TRAIN_ON)[1:])])
def test_a_finished_run_trains_on_as_if_it_had_been_longer_from_the_start(kind, tmp_path, run_again):
    options = [*TRAIN_ON[kind], "evaluation.episodes=1"]
    run_again(tmp_path / "alone", *options, "total_frames=60", SELDOM).check_done()
    run_again(tmp_path / "run", *options).check_done()
    assert run_again(tmp_path / "run", *options, "total_frames=60").check_done().resumed_from() == 40
    longer = outcome(tmp_path / "run")
    if kind.startswith("overlapped"):  # where action 41 is chosen before update 40, which was made without one
        assert longer["number of records"] == 60
    else:
        assert differences(longer, outcome(tmp_path / "alone")) == []


def test_a_total_that_is_passed_already_is_refused_or_finished(half_done, run_again):
    before = files(half_done)
    ran = run_again(half_done, "total_frames=24")  # the run is at 30
    assert ran.status == 2, ran.out
    assert "total_frames=24" in ran.error
    assert files(half_done) == before


@pytest.mark.parametrize(
    ("resume", "there", "wanted"),
    [("true", False, "holds no run"), ("false", True, "already holds a run"), ("maybe", False, "resume=maybe")],
)
def test_what_resume_may_be(resume, there, wanted, half_done, tmp_path, run_again):
    folder = half_done if there else tmp_path / "none"
    assert wanted in run_again(folder, f"resume={resume}").error


def test_a_folder_that_moved_resumed_from_anywhere(half_done, finished, tmp_path, monkeypatch, run_again):
    moved = tmp_path / "elsewhere" / "under another name"
    moved.parent.mkdir()
    half_done.rename(moved)
    monkeypatch.chdir(moved.parent)
    assert run_again("under another name").check_done().resumed_from() == 30
    assert same(moved, finished)
