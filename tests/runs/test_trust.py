"""A run or an export from somebody else is data: whatever reads it imports nothing without the user's word."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support.configs import load
from tests.support.paths import EXAMPLES
from tests.support.saved import save_run
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint.checkpoints import find_weights, newest_first
from torchrl_glam.runs.export import export_weights
from torchrl_glam.runs.loading import load_run, read_config

CODE = "import os, pathlib\npathlib.Path(os.environ['GLAM_TEST_MARK']).touch()\n"
DYNAMICS, MODEL = "torchrl_glam.modules.GLAMDynamics", "torchrl_glam.modules.GLAMWorldModel"
READERS = ("evaluate.py", "play.py", "imagine.py", "diagnose.py", "export.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_run(folder, "env.name=CartPole-v1", "env.observation=pixels")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of a run of CartPole, of parts of this package only."""
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once the module ``foreign_code`` was imported, which the current folder holds."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "foreign_code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")
    monkeypatch.setenv("GLAM_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    return tmp_path / "mark"


def change(run: Path, pattern: str, replacement: str) -> None:
    """Change the run's options."""
    config = run / "config.yaml"
    text, number = re.subn(pattern, replacement, config.read_text(), count=1, flags=re.MULTILINE)
    assert number == 1
    config.write_text(text)


PLACES = {
    "env.name": (r"^  name: CartPole-v1", "  name: foreign_code:CartPole-v1"),
    "world_model.dynamics": (f"_target_: {DYNAMICS}", "_target_: foreign_code.Backbone"),
    "world_model": (f"_target_: {MODEL}", "_target_: foreign_code.Model"),
    "objective.loss": (r"^  loss: .*", "  loss: foreign_code.Loss"),
}


@pytest.mark.parametrize("place", PLACES)
def test_whatever_is_named_is_refused_and_not_imported(place, run, mark):
    change(run, *PLACES[place])
    for read in (load_run, read_config):
        with pytest.raises(UsageError, match=rf"'foreign_code\S*' \({place}\).*trust=true") as refused:
            read(run)
        assert "\n" not in str(refused.value)
    assert not mark.exists()


def test_every_command_that_reads_a_run_refuses(run, mark, refuse):
    change(run, *PLACES["env.name"])
    for name in READERS:
        more = ["to=minari"] if name == "export.py" else []
        assert "'foreign_code' (env.name)" in refuse(EXAMPLES / name, f"run_dir={run}", *more)
    assert not mark.exists()


def test_with_the_users_word_it_is_imported(run, mark, refuse):
    change(run, *PLACES["world_model.dynamics"])
    line = refuse(EXAMPLES / "evaluate.py", f"run_dir={run}", "trust=true")
    assert "dynamics=foreign_code.Backbone cannot be imported" in line
    assert mark.exists()


def test_a_part_that_is_no_choice_is_refused_even_so(run):
    change(run, f"_target_: {MODEL}", "_target_: subprocess.Popen")
    with pytest.raises(UsageError, match=r"where only torchrl_glam.modules.GLAMWorldModel can be"):
        load_run(run, trust=True)


def test_no_secret_of_the_machine_gets_into_an_export(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GLAM_TEST_SECRET", "hunter2")
    change(run, r"^preset: .*", "preset: ${oc.env:GLAM_TEST_SECRET}")
    with pytest.raises(UsageError, match="is not resolved"):
        export_weights(load_run(run), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pattern", "replacement", "reason"),
    [
        (r"num_layers: \d+", "num_layers: 10000000", "num_layers=10000000: give a whole number from 1 to 1000"),
        (r"^    width: \d+", "    width: 0", "width=0: give a whole number of at least 1"),
        (r"^    width: \d+", "    width: 1000000", "width=1000000: give a whole number from 1 to 65536"),
        (r"^    width: \d+", "    width: 60000", "the weights of world_model are not those"),
        (r"^  hidden: \d+", "  hidden: 65536", "the weights of actor are not those"),
        (
            r"_target_: torchrl_glam.modules.GLAMDynamics(\n    .*)*?\n  (?=\w)",
            "_target_: torchrl_glam.modules.MambaDynamics\n    width: 65536\n  ",
            "the weights of world_model are not those",
        ),
        ("_target_(?=: torchrl_glam.modules.GLAMDynamics)", "_tarfet_", r"world_model.dynamics has no _target_"),
        ("_target_(?=: .*auto_encoder)", "_tarfet_", r"world_model.encoder has no _target_"),
        ("_target_(?=: .*TwoHotHead)", "_tarfet_", r"world_model.reward_head has no _target_"),
        ("_target_(?=: .*Objective)", "_tarfet_", r"objective has no _target_"),
        (r"^objective:(\n  .*)*", "objective: null", r"objective has no _target_"),
        (r"^objective:(\n  .*)*", "objective: [1]", r"objective has no _target_"),
        (r"^world_model:(\n  .*)*", "world_model: 5", r"config.yaml cannot be read"),
        ("_target_(?=: .*GLAMModelLoss)", "_tarfet_", r"config.yaml cannot be read"),
        ("_target_(?=: .*GLAMWorldModel)", "_tarfet_", r"config.yaml cannot be read"),
        (r"num_classes: \d+", "num_classes: 1e23", "could not be converted to Integer"),
        (r"num_classes: \d+", f"num_classes: {'9' * 2000}", "num_classes=999"),
        (r"lr: .*", "lr: 1e999", "lr=inf: give a finite number"),
        (r"lr: .*", "lr: .nan", "lr=nan: give a finite number"),
        (r"frame_skip: .*", "frame_skip: 1000000000", "frame_skip=1000000000: give a whole number from 1 to 1000"),
        (r"total_frames: .*", "total_frames: 1", "total_frames=1 must be above"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_made(run, pattern, replacement, reason):
    change(run, pattern, replacement)
    with pytest.raises(UsageError, match=reason) as refused:
        load_run(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "metadata",
    [
        "[]",
        "[" * 100_000,
        '{"frame": 1e999, "action": {"one_hot": 2}}',
        '{"frame": -1, "action": {"one_hot": 2}}',
        '{"frame": 1, "action": {"one_hot": 100000000000000000000000}}',
        '{"frame": 1, "action": {"one_hot": 1000000000}}',
        '{"frame": 1, "action": {"one_hot": -3}}',
        '{"frame": 1, "action": {"one_hot": true}}',
        '{"frame": 1, "action": {"low": [NaN], "high": [1]}}',
        '{"frame": 1, "action": {"low": [0, 0], "high": [1]}}',
        '{"frame": 1, "action": {"low": [1e99], "high": [1e100]}}',
    ],
)
def test_metadata_out_of_range(run, metadata):
    weights = run / "weights.safetensors"
    save_file(load_file(weights), weights, {"torchrl_glam": metadata})
    with pytest.raises(UsageError, match=r"weights.safetensors is (damaged|no file of torchrl_glam, or damaged)"):
        load_run(run)


def test_weights_that_are_a_pipe_are_not_waited_for(run):
    (run / "weights.safetensors").unlink()
    os.mkfifo(run / "weights.safetensors")
    with pytest.raises(UsageError, match=r"weights.safetensors is damaged or missing"):
        load_run(run)


def test_a_folder_that_only_looks_like_a_checkpoint(run):
    (run / "checkpoints" / "checkpoint-²").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint-5.torchrl").mkdir()
    assert newest_first(run / "checkpoints") == []
    assert load_run(run).frame == 150
    with pytest.raises(UsageError, match="has no checkpoint with a return in training"):
        find_weights(run, "best")


@pytest.mark.parametrize("manifest", ["[]", "[" * 100_000, '{"metadata": {"train_return": 1e999}}', None])
@pytest.mark.parametrize("weights", ["newest", "best"])
def test_a_manifest_that_is_none(run, manifest, weights):
    (run / "weights.safetensors").unlink()
    checkpoint = run / "checkpoints" / "checkpoint-000000000010"
    checkpoint.mkdir(parents=True)
    if manifest is None:
        os.mkfifo(checkpoint / "manifest.json")
    else:
        (checkpoint / "manifest.json").write_text(manifest)
    (checkpoint / "SHA256SUMS").write_text("\n")
    with pytest.raises(UsageError) as refused:
        load_run(run, weights=weights)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_reads_no_part_from_elsewhere(run):
    checkpoint = run / "checkpoints" / "checkpoint-000000000010"
    checkpoint.mkdir(parents=True)
    part = {"adapter": "torchrl_glam.weights", "adapter_version": 1, "path": "../..", "metadata": {}}
    manifest = {"format": "torchrl.checkpoint", "format_version": 1, "components": {"weights": part}, "metadata": {}}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    (run / "weights.safetensors").rename(run / "hidden")
    with pytest.raises(UsageError):
        load_run(run)


def test_a_users_own_run_and_command_line_need_no_word(mark, run):
    with pytest.raises(UsageError, match=r"foreign_code.Backbone cannot be imported"):
        load("dynamics=foreign_code.Backbone")
    assert mark.exists()
    assert load_run(run).config.env.name == "CartPole-v1"


@pytest.mark.parametrize("name", ["media", "checkpoints", "metrics", "replay", "config.yaml", "weights.safetensors"])
def test_nothing_is_loaded_or_written_through_a_link(name, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    if (run / name).exists():
        (run / name).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (run / name).symlink_to(elsewhere)
    for read in (load_run, read_config):
        with pytest.raises(UsageError, match=rf"{name} is a symbolic link") as refused:
            read(run)
        assert "\n" not in str(refused.value)


def test_a_checkpoint_that_is_a_link_is_none(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "checkpoint-000000000999").symlink_to(tmp_path / "elsewhere")
    assert newest_first(run / "checkpoints") == []
    assert load_run(run).frame == 150
