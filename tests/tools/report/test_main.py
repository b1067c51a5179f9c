"""``python -m torchrl_glam.tools.report``: from result files to tables and pictures, and its errors."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.made_runs import per_seed_scores, write_method, write_run
from torchrl_glam.tools.report import __main__ as command
from torchrl_glam.tools.report.references import References, load_references


@pytest.fixture
def report(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command; it returns the output and the folder of the files."""

    def run(*arguments):
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["glam-report", *map(str, arguments), f"out={out}"])
        command.main()
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out, out

    return run


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command, which must end with status 2; it returns the one line."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["glam-report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        printed = capsys.readouterr()
        assert ended.value.code == 2
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err.strip()

    return run


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_aggregates_of_iris_are_those_that_its_paper_prints(report, tmp_path):
    """From the scores of each seed: mean 1.046, median 0.289, IQM 0.501, optimality gap 0.512, 10 games as human."""
    write_method(tmp_path / "runs", "IRIS")
    write_method(tmp_path / "runs", "SimPLe")
    text, out = report(tmp_path / "runs", "references=unrounded", "resamples=200")
    printed = {"mean": 1.046, "median": 0.289, "IQM": 0.501, "optimality gap": 0.512}
    rows = [row for row in read_csv(out / "aggregates.csv") if row["whose"] == "ours"]
    iris = {row["quantity"]: row for row in rows if row["method"] == "IRIS"}
    assert {name: round(float(iris[name]["value"]), 3) for name in printed} == printed
    assert iris["superhuman"]["value"] == "10"
    for name in printed:
        low, value, high = (float(iris[name][end]) for end in ("low", "value", "high"))
        assert value - 0.2 < low < value < high < value + 0.2
    simple = [row["value"] for row in rows if row["method"] == "SimPLe"]
    assert [round(float(value), 3) for value in simple] == [0.332, 0.134, 0.130, 0.729, 1]

    scale = load_references(References.unrounded)
    one, other = (np.array([per_seed_scores(name)[game] for game in scale.index]).T for name in ("IRIS", "SimPLe"))
    greater = np.mean([[(x > y) + 0.5 * (x == y) for x in one] for y in other])
    (chance,) = [row for row in rows if row["quantity"] == "probability of improvement"]
    assert chance["method"] == "IRIS > SimPLe"
    assert float(chance["value"]) == pytest.approx(greater, abs=1e-5)

    assert text.startswith("# Atari 100k\n\n260 runs of 2 methods in 26 environments. Protocol `glam`: sticky")
    assert "| ours: IRIS | glam | 100,000 | 5 | 1.046 [" in text
    assert "DIAMOND | 1.459" in text, "the league stands beside a study of all games"
    assert "no sample-efficiency curve, 130 runs without episodes" in text
    assert {path.name for path in out.iterdir()} == {
        *("report.md", "runs.csv", "games.csv", "aggregates.csv", "published.csv"),
        *("aggregates.png", "profiles.png", "improvement.png"),
    }
    assert text.startswith((out / "report.md").read_text())


def test_folders_with_the_names_of_formulas_and_tags(report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_run(tmp_path / "made", "Pong", 0, [1.0])
    for name in ("=1+1", "<b>"):
        (tmp_path / name).mkdir()
    path.rename("=1+1/result.json")
    (tmp_path / "<b>" / "config.yaml").write_text("total_frames: 20000\n")
    text, out = report("=1+1", "<b>")
    assert "<" not in (out / "report.md").read_text()
    assert "&lt;b>" in text
    (row,) = read_csv(out / "runs.csv")
    assert row["path"] == "'=1+1/result.json"


def test_a_small_study(report, tmp_path):
    for seed, score in enumerate((4.0, 8.0)):
        curve = [(step, score * step / 20_000) for step in range(1000, 20_000, 1000)]
        returns = [score - 1, score + 1] * 10
        write_run(tmp_path / "runs", "Pong", seed, returns, curve=curve, preset="cpu", total_frames=20_000)
    write_run(tmp_path / "runs", "tests.support.games:CatchBall-v0", 0, [2.5], preset="cpu", total_frames=20_000)
    write_run(tmp_path / "random", "Pong", 0, [-21.0] * 40, preset="random", total_frames=0)
    (tmp_path / "runs" / "env.name=x").mkdir()
    (tmp_path / "runs" / "env.name=x" / "config.yaml").write_text("total_frames: 20000\n")
    text, out = report(tmp_path / "random", tmp_path / "runs" / "cpu", tmp_path / "runs" / "env.name=x")
    assert f"**This study is not finished**: 1 run without a result yet: {tmp_path}/runs/env.name=x." in text
    assert "# Atari runs\n\n3 runs of 1 method in 2 environments" in text
    # Mean 6 ± sqrt(8); (6 + 21) / 36; 20 frames in a second.
    assert "| Pong | cpu | glam | 6.00 ± 2.83 | 4.00 to 8.00 | 2 (too few) | 20 | 0.750 | 20 | 83 min |" in text
    assert "| tests.support.games:CatchBall-v0 | cpu | glam | 2.50 | - | 1 (too few) | 1 | - | 20 | 83 min |" in text
    assert "| Pong | cpu | glam | 6.00 | -21.0 (40 episodes) | 0: " in text
    assert "and so no test, of tests.support.games:CatchBall-v0 (glam)." in text
    assert "cpu: 1 game of the 26, no aggregate." in text
    assert "probability of improvement |" not in text
    assert "### " not in text
    tests = {row["seed"]: row["p_random"] for row in read_csv(out / "runs.csv") if row["env"] == "ALE/Pong-v5"}
    assert all(0 < float(p) < 1e-10 for p in tests.values())
    with Image.open(out / "games.png") as image:
        assert min(image.size) > 300
        assert (0x00, 0x72, 0xB2) in {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}
    assert read_csv(out / "aggregates.csv") == []


def test_without_matplotlib_there_are_tables(report, tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.presentation.has_matplotlib", False)
    text, out = report(write_run(tmp_path, "Pong", 0, [1.0], curve=[(1, 1)]), "league=true")
    assert text.endswith('no pictures: matplotlib is missing, pip install "torchrl_glam[report]"\n')
    assert "DIAMOND" in text
    assert not list(out.glob("*.png"))


def test_what_is_refused(refused, tmp_path, monkeypatch):
    write_run(tmp_path / "runs", "Pong", 0, [1.0])
    assert refused() == "error: give run folders, folders of runs, or result.json files; --help lists the options"
    assert refused("runs", "ouy=x") == "error: there is no option ouy: did you mean out?"
    assert refused("nowhere").startswith("error: nowhere does not exist: give run folders")
    assert "resamples=5: give at least 100" in refused("runs", "resamples=5")
    assert "seed=-1: give a whole number" in refused("runs", "seed=-1")
    assert "references=x" in refused("runs", "references=x")
    (tmp_path / "file").touch()
    assert "out=file/report.md cannot be written" in refused("runs", "out=file")
    assert not (tmp_path / "report").exists() or not list((tmp_path / "report").iterdir())
    monkeypatch.setitem(sys.modules, "rliable", None)
    assert refused("runs").endswith('pip install "torchrl_glam[report]"')


def test_help_lists_the_options(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["glam-report", "--help"])
    command.main()
    text = capsys.readouterr().out
    assert "RUNS... are run folders" in text
    assert "glam-report key=value ..." in text
    assert "references=table1 (table1|unrounded)" in text
