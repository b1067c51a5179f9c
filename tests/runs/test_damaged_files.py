"""One file of a run, a dataset or a study is damaged at random: whoever reads it says so in a line, or reads it well.

``pytest -m slow tests/runs/test_damaged_files.py`` tries hundreds of damages, the suite a few.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn
from torchrl.checkpoint import GlobalRNGState

from tests.support.datasets import PENDULUM, write_episodes
from tests.support.made_runs import write_run
from tests.support.offline_results import result, write
from tests.support.saved import save_run
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.offline.dataset import load_dataset
from torchrl_glam.offline.results.runs import read_runs as read_offline_runs
from torchrl_glam.runs.checkpoint import TrainedNetworks, read_records
from torchrl_glam.runs.checkpoint.checkpoints import Checkpoints
from torchrl_glam.runs.folder import RunFolder
from torchrl_glam.runs.loading import load_run, read_config
from torchrl_glam.tools.report.runs import read_runs

SECONDS = 300  # of the clock; a reader takes a fraction of one, and a busy machine is slow
NUMBERS = (b"1e999", b"1e308", b"1e23", b"-1", b"0", b"99999999999999999999", b"nan", b'"\\ud800"', b"[]", b"null")


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    changed[draw.randrange(min(len(changed), 4000))] ^= 1 << draw.randrange(8)  # headers and texts rather than tensors
    return bytes(changed)


def renumber(data: bytes, draw: random.Random) -> bytes:
    """Replace one of the first numbers."""
    places = list(re.finditer(rb"\d+(\.\d+)?", data[:4000]))
    if not places:
        return draw.choice(NUMBERS)
    place = draw.choice(places)
    return data[: place.start()] + draw.choice(NUMBERS) + data[place.end() :]


def insert(data: bytes, draw: random.Random) -> bytes:
    """Insert something between the first bytes."""
    things = (
        b"[" * 50_000,
        b"{" * 50_000,
        b"\0" * 9,
        b"\xff\xfe",
        b"&a [*a]",
        b"${oc.env:HOME}",
        b"\\ud800",
        b"\n\n- x\n",
    )
    place = draw.randrange(min(len(data), 4000) + 1)
    return data[:place] + draw.choice(things) + data[place:]


def replace(_: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"", b"[]", b"{}", b"null", b"3", b"precious notes\n", b"\0" * 100, b"[" * 100_000, b"1e999"))


OF = {"run": ("run", "best", "records", "resume"), "sets": ("dataset",)}
"""Readers of the files in a folder; of another one, the one with its name."""

CHANGES = (cut, flip, renumber, insert, replace)


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file at random, and say how."""
    if draw.random() < 0.15:
        path.unlink()
        special = {"a pipe": os.mkfifo, "a folder": os.mkdir, "zeros": lambda at: at.symlink_to("/dev/zero")}
        kind = draw.choice([*special, "nothing"])
        special.get(kind, lambda at: None)(path)
        return kind
    change = draw.choice(CHANGES)
    path.write_bytes(change(path.read_bytes(), draw))
    return change.__name__


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint, a dataset, two studies: small, and whole."""
    folder = tmp_path_factory.mktemp("whole")
    save_run(folder / "run", "env.name=CartPole-v1", "env.observation=pixels", played=(40,))
    write_run(folder / "study", "Pong", 0, [1.0, 2.0], curve=[(1, 2), (2, 3)]).rename(folder / "run" / "result.json")
    (folder / "run" / "run.json").write_text('{"id": "one", "processes": [{"versions": {}, "git": null}]}')
    run = load_run(folder / "run")
    networks: dict[str, nn.Module | None] = {"world_model": run.world_model, "actor": run.actor, "critic": run.critic}
    trained = TrainedNetworks({name: network for name, network in networks.items() if network}, run.action_spec)
    saved = Checkpoints(folder / "run", "one", networks=trained, replay=None, random_state=GlobalRNGState(), parts={})
    saved.save(200, 1.5)
    write_run(folder / "study", "Pong", 1, [1.0, 2.0], curve=[(1, 2), (2, 3)])
    write_run(folder / "study", "Boxing", 1, [1.0, 2.0])
    write(folder / "offline", result(), result(seed=1))
    write_episodes(folder / "sets")
    return folder


def readers(folder: Path) -> dict[str, Callable[[], object]]:
    """Return whatever reads files of others, as the commands do."""
    run = folder / "run"
    return {
        "run": lambda: load_run(run),
        "best": lambda: load_run(run, weights="best"),
        "records": lambda: read_records(run),
        "resume": lambda: RunFolder(read_config(run)).release(),
        "study": lambda: read_runs([folder / "study"]),
        "offline": lambda: read_offline_runs(folder / "offline"),
        "dataset": lambda: load_dataset("tests/counting-v0", root=folder / "sets", env_name=PENDULUM, download=False),
    }


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise an error in whatever waits for too long."""

    def late(*_: object) -> None:
        raise TimeoutError("this never ends")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_damages(whole: Path, tmp_path: Path, seed: int, number: int) -> list[str]:
    """Damage one file at a time and read it; return a line for each reader that failed otherwise than in a line."""
    draw, failures = random.Random(seed), []
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.name != ".lock")
    for trial in range(number):
        folder = shutil.copytree(whole, tmp_path / str(trial))
        name = draw.choice(names)
        what = f"seed {seed} trial {trial}: {damage(folder / name, draw)} in {name}"
        wanted = {"run": ("run", "best", "records", "resume"), "sets": ("dataset",)}.get(
            name.parts[0], (name.parts[0],)
        )
        for reader in wanted:
            try:
                with time_limit():
                    readers(folder)[reader]()
            except (UsageError, Stopped) as error:
                line = str(error)
                if "\n" in line or len(line) > 1500:
                    failures.append(f"{what}, {reader}: {line[:300]!r}")
            except Exception as error:
                failures.append(f"{what}, {reader}: {type(error).__name__}: {str(error)[:300]}")
        shutil.rmtree(folder)
    return failures


@pytest.mark.parametrize("number", [12, pytest.param(280, marks=pytest.mark.slow)])
def test_a_damaged_file_is_one_line(whole, tmp_path, number):
    assert try_damages(whole, tmp_path, int(os.environ.get("GLAM_FUZZ_SEED", "0")), number) == []
