"""The script that exports a run, and a whole run seen through all three scripts."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial

import minari
import pytest
import torch

from tests.support.paths import EXAMPLES
from tests.support.saved import save_run
from torchrl_glam.runs.checkpoint import read_records
from torchrl_glam.runs.loading import load_run

EXAMPLE = EXAMPLES / "export.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "catch"
    save_run(folder)
    return folder


@pytest.fixture
def export(monkeypatch, capsys, tmp_path):
    """A function that runs the script here, in a folder of its own; returns its line."""

    def run(*options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "trust=true", *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        (line,) = out.splitlines()
        return line

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE, "trust=true")


def test_weights(folder, export, tmp_path):
    line = export(f"run_dir={folder}", "to=safetensors", f"out={tmp_path / 'pong'}")
    assert line == f"weights of step 150: load them by torchrl_glam.runs.loading.load_run('{tmp_path / 'pong'}')"
    assert load_run(tmp_path / "pong", trust=True).frame == 150
    assert export(f"run_dir={folder}", "to=safetensors").endswith("load_run('exported/catch')")
    assert load_run(tmp_path / "exported" / "catch", trust=True).frame == 150


def test_a_dataset(folder, export, tmp_path, monkeypatch):
    line = export(f"run_dir={folder}", "to=minari", f"out={tmp_path / 'sets'}", "dataset_id=catch-v2")
    assert (
        line
        == f"dataset catch-v2: load it by MINARI_DATASETS_PATH={tmp_path / 'sets'} and minari.load_dataset('catch-v2')"
    )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    assert minari.load_dataset("catch-v2").total_episodes == 3
    line = export(f"run_dir={folder}", "to=minari")
    assert line == "dataset glam/catchball-seed0-v0: load it by minari.load_dataset('glam/catchball-seed0-v0')"


WRONG = {
    "no run": (["run_dir=/nowhere", "to=minari"], ["/nowhere holds no run"]),
    "no target": ([], ["give to=..."]),
    "unknown target": (["to=csv"], ["to=csv", "safetensors, minari"]),
    "malformed id": (["to=minari", "dataset_id=pong"], ["dataset_id=pong", "malformed", "name-v0"]),
    "weights of a dataset": (["to=minari", "weights=best"], ["weights=best", "leave it out"]),
    "id of weights": (["to=safetensors", "dataset_id=a-v0"], ["dataset_id=a-v0", "leave it out"]),
    "unknown weights": (["to=safetensors", "weights=last"], ["weights=last", "newest or best"]),
    "a taken folder": (["to=safetensors", "out=/tmp"], ["out=/tmp", "is there already"]),
    "a place that is none": (["to=safetensors", "out=/proc/nothing/a"], ["out=/proc/nothing/a", "cannot be written"]),
    "datasets there": (["to=minari", "out=/proc/nothing/a"], ["out=/proc/nothing/a", "cannot be written"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_ends_in_one_clear_line(folder, refused, name):
    options, wanted = WRONG[name]
    run_dir = [] if name == "no run" else [f"run_dir={folder}"]
    line = refused(*run_dir, *options)
    assert all(part in line for part in wanted)


@pytest.mark.long
def test_a_real_run_is_evaluated_imagined_and_exported(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", [script, f"run_dir={folder}", *options])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    run("glam_atari.py", "preset=debug", "env.name=tests.support.games:CatchBall-v0")
    assert "over 1 episode (protocol glam) | 160 frames of training" in run("evaluate.py", "seed=4", "trust=true")
    assert json.loads((folder / "evaluation-160-glam-seed4.json").read_text())["lengths"] == [60]
    assert "4 x 20 steps after 8 real ones" in run("imagine.py", "steps=20", "trust=true")
    run("export.py", "trust=true", "to=minari", f"out={tmp_path / 'sets'}", "dataset_id=glam/run-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    dataset = minari.load_dataset("glam/run-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 159)
    actions = torch.cat([torch.from_numpy(episode.actions) for episode in dataset.iterate_episodes()])
    assert torch.equal(actions, read_records(folder)["action"].argmax(-1)[:159])
    run("export.py", "trust=true", "to=safetensors", f"out={tmp_path / 'pong'}")
    exported, own = (load_run(path, trust=True) for path in (tmp_path / "pong", folder))
    for mine, its in zip(exported.policy.parameters(), own.policy.parameters(), strict=True):
        assert torch.equal(mine, its)
