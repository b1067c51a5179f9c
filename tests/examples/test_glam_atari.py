"""The example as its user meets it: a whole debug run, and one clear line for every bad input."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch._inductor import config as inductor

from tests.support.paths import CONFIGS, EXAMPLES, ROOT
from torchrl_glam.command.cli import command_line, hydra_command
from torchrl_glam.config import GLAMConfig
from torchrl_glam.runs.loading import load_run

EXAMPLE = EXAMPLES / "glam_atari.py"


def run_example(*options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the example in a process of its own, as a user does, from any folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(EXAMPLE), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=folder)


@pytest.fixture
def refused(refuse: Callable[..., str]) -> Callable[..., str]:
    return partial(refuse, EXAMPLE)


@pytest.fixture(scope="module")
def debug_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("runs") / "debug"
    return folder, run_example("preset=debug", f"run_dir={folder}")


def test_a_run_says_what_it_does_and_warns_of_nothing(debug_run):
    _, process = debug_run
    assert process.returncode == 0, process.stderr
    first, *_, last = process.stdout.strip().splitlines()
    for part in (
        "ALE/Pong-v5",
        "6 actions",
        "protocol glam",
        "observes pixels 64x64x3 (env.observation=auto)",
        "cpu",
        "preset debug",
        "scan ",
        "parameters",
        "about",
    ):
        assert part in first
    assert "evaluation:" in last
    assert "random -21, human 15, human-normalised" in last
    assert process.stderr == ""


def test_a_run_leaves_its_results(debug_run):
    folder, _ = debug_run
    result = json.loads((folder / "result.json").read_text())
    assert result["protocol"] == "glam"
    assert len(result["returns"]) == 1
    assert -21 <= result["mean"] <= 21
    assert (result["greedy"], result["cut"], len(result["lengths"])) == (False, 0, 1)
    assert result["steps_per_second"] == pytest.approx(160 / result["seconds"])
    assert result["evaluation_seconds"] > 0
    assert result["versions"]["torch"] == torch.__version__
    assert result["machine"]["cores"] >= 1
    assert len(result["config_hash"]) == 12
    assert result["git"] is None or len(result["git"]["commit"]) == 40
    assert OmegaConf.load(folder / "config.yaml").preset == "debug"

    losses = (folder / "metrics/scalars/world_model/loss_reconstruction.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in losses] == [110, 120, 130, 140, 150, 160]

    assert cv2.imread(str(folder / "media/imagined-000000160.png")).std() > 0
    with Image.open(folder / "media/evaluation.gif") as video:
        assert video.n_frames > 100  # of an episode of Pong

    (record,) = json.loads((folder / "run.json").read_text())["processes"]
    assert record["versions"]["torch"] == torch.__version__


def test_a_run_logs_how_it_fares(debug_run):
    scalars = debug_run[0] / "metrics/scalars"
    for name in (
        "world_model/grad_norm",
        "world_model/kl_dynamics",
        "world_model/posterior_entropy",
        "world_model/replay_age",
        "policy/grad_norm",
        "policy/entropy",
        "policy/value_error",
        "system/steps_per_second",
        "system/memory_gib",
    ):
        assert (scalars / f"{name}.csv").exists(), name


def test_a_finished_run_loads_as_objects(debug_run):
    run = load_run(debug_run[0], trust=True)
    assert (run.frame, run.config.preset) == (160, "debug")
    env = run.make_imagined_env(batch_size=2)
    assert env.rollout(3, run.actor, break_when_any_done=False)["next", "reward"].shape == (2, 3, 1)


def test_a_finished_run_is_not_run_again(debug_run):
    folder, _ = debug_run
    process = run_example("preset=debug", f"run_dir={folder}")
    assert process.returncode == 0
    (line,) = process.stdout.strip().splitlines()
    assert "is finished: 160 steps, evaluation" in line
    assert f"{json.loads((folder / 'result.json').read_text())['mean']:.2f}" in line


def test_the_same_seed_gives_the_same_numbers(debug_run, tmp_path):
    folder, _ = debug_run
    run_example("preset=debug", "evaluation.episodes=0", f"run_dir={tmp_path / 'again'}", folder=tmp_path)
    for name in ("world_model/loss_reconstruction", "policy/loss_critic", "policy/loss_objective"):
        csv = f"metrics/scalars/{name}.csv"
        assert (folder / csv).read_text() == (tmp_path / "again" / csv).read_text()


BAD_INPUTS = {
    "unknown game": (["env.name=ALE/Pnog-v5"], ["ALE/Pnog-v5", "did you mean", "ALE/Pong-v5"]),
    "misspelt option": (["env.nmae=ALE/Pong-v5"], ["env.nmae", "did you mean env.name"]),
    "option in the wrong place": (["batch_length=32"], ["batch_length", "replay.batch_length"]),
    "wrong type": (["total_frames=many"], ["total_frames=many", "Integer"]),
    "not one of the choices": (["env.protocol=mine"], ["env.protocol=mine", "glam, standard"]),
    "unknown preset": (["preset=papr"], ["preset=papr", "choose one of", "paper"]),
    "cuda where there is none": (["device=cuda"], ["device=cuda", "no CUDA device", "device=cpu"]),
    "unknown actions": (["env.name=tests.support.games:TwoLevers-v0"], ["MultiBinary", "Discrete"]),
    "continuous actions for discrete SAC": (
        ["env.name=tests.support.games:SteerBall-v0", "objective=discrete_sac"],
        ["objective=discrete_sac", "discrete actions", "choose glam"],
    ),
    "unknown objective": (["objective=pppo"], ["objective=pppo", "choose one of", "ppo"]),
    "unknown backbone": (["dynamics=strom"], ["dynamics=strom", "choose one of", "storm"]),
    "unknown ablation": (["ablation=without_l"], ["ablation=without_l", "choose one of", "without_g"]),
    "loss that is not there": (["objective=nothing.Loss"], ["objective=nothing.Loss", "No module named 'nothing'"]),
    "backbone that is none": (["dynamics=torch.nn.Linear"], ["dynamics=torch.nn.Linear", "SequenceBackbone"]),
    "new keyword without a plus": (["objective.kwargs.x=1"], ["write +objective.kwargs.x="]),
    "heads that do not divide": (
        ["dynamics=storm", "world_model.dynamics.num_heads=5"],
        ["num_heads=5", "width"],
    ),
    "environments that do not divide": (["env.num_envs=3"], ["total_frames=160", "env.num_envs=3"]),
    "ablation undone": (
        ["ablation=without_g", "dynamics=storm"],
        ["ablation=without_g", "dynamics=lmamba_only", "storm"],
    ),
    "a loss that is not there": (
        ["-m", "objective=ppo,my.Loss"],
        ["objective=my.Loss cannot be imported", "No module"],
    ),
    "several environments and overlap": (
        ["env.num_envs=2", "training.overlap=true"],
        ["training.overlap=true", "env.num_envs=2"],
    ),
    "total_frames below the warm-up": (["total_frames=100"], ["total_frames=100", "training.warmup_frames=100", "101"]),
    "zero batch": (["replay.batch_size=0"], ["replay.batch_size=0", "at least 1"]),
    "zero layers": (["world_model.dynamics.local_layers=0"], ["world_model.dynamics.local_layers=0", "at least 1"]),
    "negative seed": (["seed=-1"], ["seed=-1", "at least 0"]),
    "more newest windows than a batch": (["replay.newest=4"], ["replay.newest=4", "replay.batch_size=4"]),
    "no room for a sequence": (["replay.capacity=10"], ["replay.capacity=10", "16 frames"]),
    "too short a sequence": (["replay.batch_length=4"], ["replay.batch_length=4", "first_valid + 2 = 5"]),
    "unimix above 1": (["world_model.unimix=2"], ["world_model.unimix=2", "from 0 to 1"]),
    "negative learning rate": (["model_optimizer.lr=-1"], ["model_optimizer.lr=-1", "at least 0"]),
    "no channels": (["world_model.channels=[]"], ["world_model.channels=[]", "at least 1"]),
    "backend that cannot run here": (["world_model.dynamics.backend=triton"], ["triton", "auto, reference, torch"]),
    "unknown scan backend": (["world_model.dynamics.backend=cuda"], ["cuda", "torch"]),
    "backend that cannot be compiled": (
        ["training.compile=true", "world_model.dynamics.backend=reference"],
        ["training.compile=true", "world_model.dynamics.backend=reference"],
    ),
    "no batch to start from": (
        ["imagination.starts=batch", "training.world_model_every=2"],
        ["imagination.starts=batch", "training.policy_every=1", "multiple of training.world_model_every=2"],
    ),
    "more starts than a batch has": (
        ["imagination.starts=batch", "imagination.batch_size=49"],
        ["imagination.starts=batch", "32 starts", "imagination.batch_size=49", "at most 32"],
    ),
    "unknown way to resume": (["resume=maybe"], ["resume=maybe", "auto, true, false, force"]),
    "nothing to resume": (["resume=true"], ["resume=true", "holds no run"]),
    "no threads": (["threads=0"], ["threads=0", "at least 1"]),
    "a launcher and no sweep": (["study=joblib"], ["study=joblib"]),  # or that its package is missing
    "a study in one folder": (["-m", "seed=0,1"], ["run_dir=", "several runs", "${seed}"]),
    "a study of no game": (["-m", "env.name=glob(Bxing)"], ["none of the 26 games", "did you mean Boxing"]),
    "no checkpoints to keep": (["checkpoint.keep=0"], ["checkpoint.keep=0", "at least 1"]),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_ends_in_one_clear_line(name, tmp_path, refused):
    if name == "cuda where there is none" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    options, wanted = BAD_INPUTS[name]
    preset = [] if name == "unknown preset" else ["preset=debug"]
    line = refused(*preset, f"run_dir={tmp_path / 'run'}", *options)
    for part in wanted:
        assert part in line
    assert not (tmp_path / "run" / "config.yaml").exists()  # the corrected command may use the same folder


def test_nothing_is_compiled_without_a_compiler(tmp_path, refused):
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}):
        line = refused("preset=debug", "device=cpu", "training.compile=true", f"run_dir={tmp_path / 'run'}")
    assert "training.compile=true" in line
    assert "install one (g++)" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("taken", ["by a file", "by a run"])
def test_a_run_dir_that_cannot_be_used_is_left_as_it_is(taken, tmp_path, refused):
    folder = tmp_path / "taken"
    precious, wanted = folder, "cannot be written"
    if taken == "by a run":
        folder.mkdir()
        precious, wanted = (
            folder / "config.yaml",
            "holds files of something else where a run puts its own (config.yaml)",
        )
    precious.write_text("precious")
    line = refused("preset=debug", f"run_dir={folder}")
    assert wanted in line
    assert str(folder) in line
    assert precious.read_text() == "precious"


SIZES = {"cpu": (8, 128), "paper": (32, 256), "vector": (8, 64)}
VECTORS = ["env.name=CartPole-v1"]


@pytest.mark.parametrize(
    ("options", "wanted"), [([], "cpu"), (["preset=auto"], "cpu"), (["preset=paper"], "paper"), (VECTORS, "vector")]
)
def test_auto_becomes_a_preset_of_this_machine_and_environment_and_an_explicit_one_is_kept(
    options, wanted, monkeypatch
):
    came = []
    command = command_line(CONFIGS, "glam_atari")(came.append)
    monkeypatch.setattr(sys, "argv", ["glam_atari", "device=cpu", *options])
    command()
    (config,) = came
    assert config.preset == wanted
    assert (config.world_model.num_classes, config.world_model.dynamics.width) == SIZES[wanted]
    assert config.run_dir.startswith(f"runs/{config.env.name}/device-cpu+preset-{wanted}-seed0-")


def test_the_folder_says_what_is_swapped(monkeypatch):
    came = []
    options = ["preset=debug", "objective=ppo", "world_model.dynamics.window=3", "seed=2", "logger=csv"]
    options += ["objective.kwargs.entropy_coeff=1"]
    for name in ("glam_atari", "random_play"):
        monkeypatch.setattr(sys, "argv", [name, *(options if name == "glam_atari" else ["env.protocol=standard"])])
        hydra_command(CONFIGS, name, GLAMConfig, lambda *_: None)(came.append)()
    swaps = "objective-ppo+objective.kwargs.entropy_coeff-1+preset-debug+world_model.dynamics.window-3"
    assert came[0].run_dir.startswith(f"runs/ALE/Pong-v5/{swaps}-seed2-20")
    assert came[1].run_dir == "runs/ALE/Pong-v5/env.protocol-standard+preset-random-seed0"


def test_a_refused_command_is_a_failed_process():
    process = run_example("env.name=ALE/Pnog-v5", "run_dir=/nowhere")
    assert process.returncode == 2
    assert len(process.stderr.strip().splitlines()) == 1


@pytest.mark.filterwarnings("ignore:.*reward is a NaN value")
@pytest.mark.parametrize(
    ("option", "status", "words"),
    [
        ("model_loss.variation_coeff=1e39", 1, "not finite: loss_variation"),
        ("env.name=tests.support.games:NoReward-v0", 2, "'NoReward-v0' gives the reward nan"),
    ],
)
def test_a_number_that_is_not_finite_stops_the_run_and_is_named(tmp_path, monkeypatch, capsys, option, status, words):
    options = ["preset=debug", f"run_dir={tmp_path / 'run'}", "env.name=tests.support.games:CatchBall-v0", option]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *options])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert exit_info.value.code == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


@pytest.mark.slow
def test_2000_steps_of_pong_at_the_cpu_preset(tmp_path):
    """Run by name, two minutes: losses fall and nothing warns."""
    folder = tmp_path / "run"
    options = ["preset=cpu", "total_frames=2000", "evaluation.episodes=1", f"run_dir={folder}"]
    process = subprocess.run([sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0
    assert process.stderr == ""
    for loss in ("loss_reconstruction", "loss_reward", "loss_termination"):
        rows = (folder / f"metrics/scalars/world_model/{loss}.csv").read_text().splitlines()
        first, last = (float(row.split(",")[1]) for row in (rows[0], rows[-1]))
        assert last < first


@pytest.mark.gpu
def test_a_debug_run_on_cuda(tmp_path):
    process = run_example("preset=debug", "device=cuda", f"run_dir={tmp_path / 'run'}")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "result.json").exists()
