"""The script that diagnoses a run: a real one from beginning to end, other parts, bad input."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial

import cv2
import pytest
from filelock import FileLock

from tests.support.paths import EXAMPLES
from tests.support.saved import save_run
from torchrl_glam.tools.diagnosis.writing import describe_state

PARTS = ["reward", "termination", "probes", "frames", "vector", "value", "dream", "policy"]


@pytest.fixture
def diagnose(monkeypatch, capsys):
    """A function that runs the script here; returns what it prints."""

    def run(*options, example="diagnose"):
        trust = ["trust=true"] if example == "diagnose" else []
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / f"{example}.py"), *trust, *options])
        runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "catch"
    save_run(folder)  # episodes of 60 steps, and 30 of one that goes on
    return folder


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLES / "diagnose.py", "trust=true")


def read(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())


@pytest.mark.long
def test_a_run_from_beginning_to_end(tmp_path, diagnose):
    """A run of the command line; then its records and fresh ones."""
    run_dir = tmp_path / "run"
    diagnose("env.name=tests.support.games:CatchBall-v0", "preset=debug", f"run_dir={run_dir}", example="glam_atari")
    printed = diagnose(f"run_dir={run_dir}", "fresh=150", "seed=3")
    path = run_dir / "diagnosis-160-seed3"
    shown = printed.split("\n\n", 1)[1]
    assert shown.startswith("# tests.support.games:CatchBall-v0: finished, 160 steps\n")
    assert "**learned by heart?**" in shown.splitlines()[-1]
    assert len(shown.splitlines()) < 30
    assert path.with_name(f"{path.name}.md").read_text().startswith(shown)
    assert cv2.imread(f"{path}.png").std() > 0
    found = read(path)
    assert list(found["verdicts"]) == ["replay", "fresh", "memory"]
    assert found["fresh"]["number"] == 150
    for source in ("replay", "fresh"):
        assert list(found["verdicts"][source]) == PARTS
        assert [row["step"] for row in found[source]["means"]] == list(range(16))
        assert [row["step"] for row in found[source]["frames"]] == list(range(1, 16))


def test_the_counts_are_those_of_the_records(tmp_path, diagnose):
    played = save_run(tmp_path / "run")
    diagnose(f"run_dir={tmp_path / 'run'}", f"out={tmp_path / 'out'}")
    found = read(tmp_path / "out")["replay"]
    rewards = played["next", "reward"].flatten()
    assert found["number"] == 150
    assert found["rewarded"] == (rewards != 0).sum()
    assert found["terminated"] == 2
    assert found["threshold"] == 0.5
    contexts = 2 * (60 - 5) + (30 - 5)
    assert found["ending"][0]["exact"]["number"] == contexts
    assert found["ending"][0]["exact"]["real"] == 2
    assert found["ending"][1]["exact"]["number"] == 2 * (60 - 21) + (30 - 21)
    assert found["dream"]["real_reward"] == pytest.approx(rewards.mean().item())
    assert found["value"]["number"] == 2 * (60 - 6), "the returns of the last episode are unknown"
    assert found["policy"]["taken"] == pytest.approx(played["action"].float().mean(0).tolist())


@pytest.mark.long
def test_the_same_seed_says_the_same(folder, diagnose, tmp_path):
    for name, seed in {"one": 3, "two": 3, "other": 4}.items():
        diagnose(f"run_dir={folder}", "fresh=80", f"seed={seed}", f"out={tmp_path / name}")
    one, two, other = ((tmp_path / f"{name}.json").read_text() for name in ("one", "two", "other"))
    assert one == two
    assert one != other.replace('"seed": 4', '"seed": 3')


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        ["objective=discrete_sac"],
        ["objective=dreamer_v3", "dynamics=storm"],
        ["imagination.memory=sliding", "env.num_envs=2"],
        ["imagination.starts=batch", "env.name=tests.support.games:SteerBall-v0"],
    ],
)
def test_other_parts(tmp_path, diagnose, options):
    save_run(tmp_path / "run", "total_frames=200", *options, played=(200,))
    diagnose(f"run_dir={tmp_path / 'run'}", "fresh=70", f"out={tmp_path / 'out'}")
    found = read(tmp_path / "out")
    assert list(found["verdicts"]["fresh"]) == PARTS
    assert (found["replay"]["value"] is None) == (options == ["objective=discrete_sac"])
    assert found["replay"]["number"] == 200


def test_without_matplotlib(folder, diagnose, tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.presentation.has_matplotlib", False)
    printed = diagnose(f"run_dir={folder}", f"out={tmp_path / 'out'}")
    assert 'matplotlib is missing: pip install "torchrl_glam[report]"' in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.md"]


def test_a_run_that_has_not_ended(folder):
    assert describe_state(folder, 1230, 20_000) == "stopped at 1,230 of 20,000 steps"
    with FileLock(folder / ".lock"):
        assert describe_state(folder, 1230, 20_000) == "in training, at 1,230 of 20,000 steps"
    assert describe_state(folder, 20_000, 20_000) == "finished, 20,000 steps"


WRONG = {
    "no run": (["run_dir=/nowhere"], ["/nowhere holds no run"]),
    "no records": (["records=0"], ["records=0", "at least 1"]),
    "fewer than none": (["fresh=-1"], ["fresh=-1", "at least 0"]),
    "plans in another game": (["fresh=60", "plans=5"], ["CatchBall-v0 is no ALE game", "leave plans out"]),
    "too few records": (["records=20"], ["of 20 real steps no 22 are of one episode", "more records"]),
    "a context of a whole episode": (["context=50"], ["no 66 are of one episode", "a shorter context"]),
    "a file as the folder": (["out=/dev/null/x"], ["out=/dev/null/x", "cannot be written"]),
    "unknown weights": (["weights=last"], ["weights=last", "newest or best"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_ends_in_one_clear_line(folder, refused, name):
    options, wanted = WRONG[name]
    run_dir = [] if name == "no run" else [f"run_dir={folder}"]
    line = refused(*run_dir, *options)
    assert all(part in line for part in wanted)


def test_a_transformer_remembers_so_many_steps(tmp_path, refused):
    save_run(tmp_path / "run", "dynamics=storm")
    assert "the backbone remembers 38: give context=22" in refused(f"run_dir={tmp_path / 'run'}", "context=30")
