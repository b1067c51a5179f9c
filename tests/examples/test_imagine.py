"""The script that shows what a world model imagines: from which records, with what errors, in which files."""

from __future__ import annotations

import csv
import runpy
import sys
from functools import partial

import cv2
import pytest
from PIL import Image

from tests.support.paths import EXAMPLES
from tests.support.saved import save_run

EXAMPLE = EXAMPLES / "imagine.py"
CONTEXT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "catch"
    save_run(folder)  # episodes of 60 steps, and 30 of one that goes on
    return folder


@pytest.fixture
def imagine(monkeypatch, capsys):
    """A function that runs the script here; returns its lines."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "trust=true", *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE, "trust=true")


def read_errors(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_hold_every_row_and_step(folder, imagine):
    (line,) = imagine(f"run_dir={folder}", "steps=5", "rows=3")
    path = folder / "media" / "imagination-150-seed0.gif"
    assert line.startswith("3 x 5 steps after 6 real ones, mean absolute error: reconstructed 0.")
    assert line.endswith(f" | {path}")
    with Image.open(path) as video:
        assert video.n_frames == 5
        assert video.size == (76 + 3 * (192 + 4), 36 + 3 * (192 + 4))
    rows = read_errors(path.with_suffix(".csv"))
    assert len(rows) == 15
    assert len({row["start"] for row in rows}) == 3
    assert [row["step"] for row in rows[:5]] == ["1", "2", "3", "4", "5"]
    assert all(0 < float(row[name]) < 0.3 for row in rows for name in ("reconstructed", "imagined", "context_frame"))
    assert cv2.imread(str(path.with_suffix(".png"))).std() > 0


def test_no_episode_ends_on_the_way(folder, imagine, tmp_path):
    imagine(f"run_dir={folder}", "steps=50", "rows=1000", f"out={tmp_path / 'all.gif'}", "scale=1")
    starts = sorted({int(row["start"]) for row in read_errors(tmp_path / "all.csv")})
    assert starts == [CONTEXT + first for first in (0, 1, 2, 3, 4, 60, 61, 62, 63, 64)]


def test_two_environments(tmp_path, imagine):
    save_run(tmp_path / "run", "env.num_envs=2", "total_frames=200", played=(200,))
    imagine(f"run_dir={tmp_path / 'run'}", "rows=1000", "steps=52", f"out={tmp_path / 'all.gif'}", "scale=1")
    starts = {int(row["start"]) for row in read_errors(tmp_path / "all.csv")}
    assert starts == {2 * CONTEXT + first for first in range(6)}


def test_the_same_seed_gives_the_same_files_and_another_one_does_not(folder, imagine, tmp_path):
    for name, seed in {"one": 3, "two": 3, "other": 4}.items():
        imagine(f"run_dir={folder}", "steps=4", "rows=2", f"seed={seed}", f"out={tmp_path / name}.gif")
    for ending in (".gif", ".csv", ".png"):
        one, two, other = ((tmp_path / name).with_suffix(ending).read_bytes() for name in ("one", "two", "other"))
        assert one == two
        assert one != other


def test_as_many_steps_as_the_episodes_have(folder, imagine, tmp_path):
    (line,) = imagine(f"run_dir={folder}", "context=10", f"out={tmp_path / 'a.gif'}")
    assert line.startswith("2 x 50 steps after 10 real ones")


def test_a_given_start(folder, imagine):
    (line,) = imagine(f"run_dir={folder}", "start=70", "steps=2")
    path = folder / "media" / "imagination-150-start70-seed0.gif"
    assert line.endswith(str(path))
    assert [row["start"] for row in read_errors(path.with_suffix(".csv"))] == ["70", "70"]


@pytest.mark.parametrize("options", [["dynamics=storm"], ["imagination.memory=sliding"], ["objective=discrete_sac"]])
def test_other_parts(tmp_path, imagine, options):
    save_run(tmp_path / "run", *options)
    (line,) = imagine(f"run_dir={tmp_path / 'run'}", "rows=1")
    steps = 32 if options == ["dynamics=storm"] else 54  # a Transformer remembers no more than it was trained on
    assert line.startswith(f"1 x {steps} steps after 6 real ones")


def test_without_matplotlib(folder, imagine, tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.presentation.has_matplotlib", False)
    _, line = imagine(f"run_dir={folder}", "steps=2", f"out={tmp_path / 'a.gif'}")
    assert line == 'the errors are not drawn, matplotlib is missing: pip install "torchrl_glam[report]"'
    assert (tmp_path / "a.csv").exists()
    assert not (tmp_path / "a.png").exists()


WRONG = {
    "no run": (["run_dir=/nowhere"], ["/nowhere holds no run"]),
    "no rows": (["rows=0"], ["rows=0", "at least 1"]),
    "no context": (["context=0"], ["context=0", "at least 1"]),
    "more steps than an episode has": (["steps=55"], ["steps=55", "60 steps", "give steps=54 or fewer"]),
    "a context of a whole episode": (["context=60"], ["context=60", "60 steps", "give a shorter context"]),
    "a start at an end": (["start=58", "steps=5"], ["start=58", "6 before and 5 after", "try start=55"]),
    "a start without a context": (["start=2", "steps=5"], ["start=2", "try start=6"]),
    "another kind of file": (["out=/tmp/a.mp4"], ["out=/tmp/a.mp4", "ends in .gif"]),
    "unknown weights": (["weights=last"], ["weights=last", "newest or best"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_ends_in_one_clear_line(folder, refused, name):
    options, wanted = WRONG[name]
    run_dir = [] if name == "no run" else [f"run_dir={folder}"]
    line = refused(*run_dir, *options)
    assert all(part in line for part in wanted)


def test_a_run_without_records(tmp_path, refused):
    save_run(tmp_path / "run")
    for path in (tmp_path / "run/replay").iterdir():
        path.unlink()
    assert "holds no records: give the run_dir of a run that wrote a checkpoint" in refused(
        f"run_dir={tmp_path / 'run'}"
    )


def test_a_transformer_remembers_so_many_steps(tmp_path, refused):
    save_run(tmp_path / "run", "dynamics=storm")
    line = refused(f"run_dir={tmp_path / 'run'}", "steps=40")
    assert "the backbone remembers 38 steps: give steps=32 or fewer" in line
