"""The example as its user meets it: a whole run, a killed one that resumes, one clear line for every bad input."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from tests.support.datasets import write_episodes
from tests.support.paths import EXAMPLES, ROOT
from torchrl_glam.errors import UsageError
from torchrl_glam.offline.loading import load_decisions
from torchrl_glam.runs.checkpoint import read_weights

EXAMPLE = EXAMPLES / "mambadm_offline.py"
EVALUATE = EXAMPLES / "evaluate_offline.py"
DATASET = "cart-pole/counting-v0"
OPTIONS = ["preset=debug", f"dataset={DATASET}", "checkpoint.every=5"]
SPACES = {"observations": Box(-np.inf, np.inf, (4,), np.float64), "actions": Discrete(2)}
KILLED = """
import os, runpy, signal, sys
from torchrl_glam.offline.training import DecisionUpdate
update = DecisionUpdate.__call__
def killed(self, windows):
    if self.schedule.last_epoch == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, windows)
DecisionUpdate.__call__ = killed
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """A folder with a dataset of CartPole's shapes; one thread, as the processes that are started have."""
    root = tmp_path_factory.mktemp("datasets")
    env = gymnasium.spec("CartPole-v1")
    write_episodes(root, dataset_id=DATASET, env=env, ref_min_score=10.0, ref_max_score=110.0, **SPACES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        yield root
    torch.set_num_threads(threads)


def give(script, *options):
    """The command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *options])
        runpy.run_path(str(script), run_name="__main__")


def outcome(folder):
    """Return the results that must be the same, however often a run was interrupted."""
    scalars = folder / "metrics" / "scalars"
    metrics = {
        str(path.relative_to(scalars)): path.read_text()
        for path in scalars.rglob("*.csv")
        if path.relative_to(scalars).parts[0] != "system"
    }
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    return read_weights(folder / "weights.safetensors").networks["actor"], metrics, result


@pytest.fixture(scope="module")
def finished(tmp_path_factory, datasets):
    """A run, and its output."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, str(EXAMPLE), *OPTIONS, f"run_dir={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return folder, subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def test_a_run_says_what_it_does_and_warns_of_nothing(finished):
    _, process = finished
    assert process.returncode == 0, process.stderr
    first, *_, last = process.stdout.strip().splitlines()
    parts = (DATASET, "17 steps of CartPole-v1", "4 episodes", "preset debug", "model mambadm", "loss bc", "20 updates")
    assert all(part in first for part in parts)
    assert "evaluation: target" in last
    assert "normalised" in last
    assert process.stderr == ""


def test_a_run_leaves_its_results(finished):
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    (evaluation,) = result["evaluations"]
    assert len(evaluation["returns"]) == 2
    assert evaluation["normalised"] == pytest.approx(evaluation["mean"] - 10)  # of references 10 and 110
    assert result["normalised"] == evaluation["normalised"]
    assert result["total_updates"] == 20
    assert result["transitions"] == 17
    best = max(sum(2 + step / 8 for step in range(7)), sum(4 + step / 8 for step in range(5)))
    assert evaluation["target_return"] == pytest.approx(best)
    assert OmegaConf.load(folder / "config.yaml").env.name == "CartPole-v1"
    scalars = folder / "metrics" / "scalars"
    rows = (scalars / "update" / "loss_bc.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows] == [5, 10, 15, 20]
    assert [int(row.split(",")[0]) for row in (scalars / "evaluation/return.csv").read_text().splitlines()] == [10, 20]


def test_a_killed_run_ends_as_if_it_had_not_been(finished, tmp_path, capsys):
    command = [f"run_dir={tmp_path / 'run'}", *OPTIONS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = KILLED.replace("sys.argv[0]", repr(str(EXAMPLE)))
    killed = subprocess.run([sys.executable, "-c", script, *command], env=environment, timeout=240, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    give(EXAMPLE, *command)
    assert "resumes from step 10 of 20" in capsys.readouterr().out
    ended, wanted = outcome(tmp_path / "run"), outcome(finished[0])
    assert ended[1:] == wanted[1:]
    for name, value in wanted[0].items():
        assert torch.equal(ended[0][name], value), name


def test_a_run_resumes_only_with_the_same_data(finished, tmp_path, monkeypatch, capsys):
    """Another dataset of the same name and shapes, whose rewards are others."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    root = tmp_path / "datasets"

    def change(episode, entries):
        entries["rewards"] = 2 * entries["rewards"]

    write_episodes(root, dataset_id=DATASET, env=gymnasium.spec("CartPole-v1"), change=change, **SPACES)
    with pytest.raises(SystemExit) as ended:
        give(EXAMPLE, *OPTIONS, f"run_dir={tmp_path / 'run'}", f"data.root={root}")
    assert ended.value.code == 2
    assert "is not what it was when the run began" in capsys.readouterr().err


def test_a_finished_run_is_not_run_again(finished, capsys):
    give(EXAMPLE, *OPTIONS, f"run_dir={finished[0]}")
    out = capsys.readouterr().out
    assert "is finished: 20 steps" in out
    assert "evaluate_offline.py" in out


def test_a_finished_run_loads(finished):
    run = load_decisions(finished[0])
    assert run.update == 20
    assert run.network.tokens.return_scale > 1
    assert load_decisions(finished[0], memory="carried").policy.memory == "carried"


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ({"name": "mambadm", "width": 16}, "its model 'mambadm' is of an earlier version of torchrl_glam"),
        ({"_target_": "torchrl_glam.offline.MambaDMActor", "wide": 16}, "Key 'wide' not in"),
    ],
)
def test_a_run_whose_model_is_unknown_is_refused(finished, tmp_path, model, line):
    options = OmegaConf.load(finished[0] / "config.yaml")
    options.model = model
    OmegaConf.save(options, tmp_path / "config.yaml")
    with pytest.raises(UsageError, match=rf"config.yaml cannot be read.*{line}") as error:
        load_decisions(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("model", "d_state"), [("mambadm", 8), ("dmamba", 8), ("dt", None)])
def test_a_preset_sets_what_the_model_has(model, d_state):
    with initialize_config_dir(str(ROOT / "configs" / "offline"), version_base="1.3"):
        options = compose("mambadm_offline", [f"model={model}", "preset=cpu", "dataset=none", "run_dir=none"])
    assert (options.model.width, options.model.num_layers, options.model.context) == (64, 2, 10)
    assert options.model.get("d_state") == d_state


@pytest.mark.parametrize("memory", ["window", "carried"])
def test_other_returns_can_be_asked_for(finished, tmp_path, capsys, memory):
    options = ["targets=0,2", "episodes=3", f"memory={memory}", f"out={tmp_path / 'asked.json'}"]
    give(EVALUATE, f"run_dir={finished[0]}", *options)
    low, high = json.loads((tmp_path / "asked.json").read_text())["evaluations"]
    assert low["target_return"] == 10
    assert high["target_return"] > 10
    assert len(low["returns"]) == len(high["returns"]) == 3
    assert "target 10:" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["dt", "dmamba", "bc"])
def test_the_others_run_by_one_option(model, tmp_path, capsys):
    give(EXAMPLE, *OPTIONS, f"model={model}", "evaluation.every=0", f"run_dir={tmp_path / 'run'}")
    assert f"model {model}" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["model"] == model


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["dataset=cart-pole/couting-v0"], "cart-pole/counting-v0"),
        (["env.name=Acrobot-v1"], "Acrobot-v1"),
        (["env.name=NoSuchEnv-v0"], "NoSuchEnv-v0"),
        (["objective=dt"], "use objective=bc"),
        (["objective=online_dt"], "use objective=bc"),
        (["optimizer.warmup_updates=20"], "must be below total_updates=20"),
        (["model=dt", "evaluation.memory=carried"], "carries no state"),
        (
            ["model=dt", "model.local_length=3"],
            "no option model.local_length: model has width, num_layers",
        ),
        (["model=rnn"], "model=rnn does not exist: choose one of "),
        (["model.contxt=3"], "did you mean model.context"),
        (["model.width=wide"], "model.width=wide: Value 'wide'"),
        (["model.fusion=mean"], "fusion is 'mean': choose one of sum, learned"),
        (["model.max_steps=-1"], "model.max_steps=-1: give a whole number of at least 0"),
        (
            ["model._target_=os.system"],
            "model._target_=os.system is no model: choose one",
        ),
        (["evaluation.targets=[]"], "evaluation.targets=[]"),
        (["data.fraction=2"], "data.fraction=2"),
        (["model.local_length=0"], "model.local_length=0"),
        (["device=cuda"], "device=cuda"),
        (["seed=1"], "seed=0, now 1"),
        (
            ["model=dt"],
            "MambaDMActor, now torchrl_glam.offline.Decision",
        ),
        (["total_updates=30"], "total_updates=20, now 30"),
    ],
)
def test_bad_input_ends_in_one_clear_line(finished, options, line, capsys, monkeypatch):
    monkeypatch.delitem(ConfigStore.instance().repo, "objective", raising=False)  # a group of GLAM's commands
    before = outcome(finished[0])[1:]
    with pytest.raises(SystemExit) as ended:
        give(EXAMPLE, *OPTIONS, *options, f"run_dir={finished[0]}")
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("error: ")
    assert line in said.err
    assert outcome(finished[0])[1:] == before


def test_an_unknown_model_is_answered_with_those_that_there_are(tmp_path):
    """In a process of its own: where TorchRL's configs are imported too, they have a group ``model``."""
    command = [sys.executable, str(EXAMPLE), *OPTIONS, "model=rnn", f"run_dir={tmp_path}"]
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stderr == "error: model=rnn does not exist: choose one of bc, dmamba, dt, mambadm\n"


def test_a_run_of_glam_is_no_offline_run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("total_frames: 5\n")
    with pytest.raises(SystemExit):
        give(EXAMPLE, *OPTIONS, f"run_dir={tmp_path}")
    assert "holds files of something else where a run puts its own (config.yaml)" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_run_on_a_gpu(tmp_path):
    give(EXAMPLE, *OPTIONS, "device=cuda", f"run_dir={tmp_path}")
    assert json.loads((tmp_path / "result.json").read_text())["total_updates"] == 20
