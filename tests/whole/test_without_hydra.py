"""docs/without_hydra.md runs as it stands, but for smaller sizes; presets in Python are those of the command line."""

from __future__ import annotations

import pytest

from tests.support.configs import load
from tests.support.pages import DOCS, python_blocks
from torchrl_glam.config import GLAMConfig, load_preset
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import SequenceBackbone
from torchrl_glam.runs.glam import GLAMRun

BLOCKS = python_blocks(DOCS / "without_hydra.md")
SMALLER = {
    '"cpu"': '"debug"',
    '"seed": 0': '"seed": 0, "total_frames": 104, "threads": 1',
    '"ALE/Pong-v5", "run_dir"': '"tests.support.games:CatchBall-v0", "run_dir"',
    "episodes = 5": "episodes = 1",
    "episodes=2": "episodes=1",
    'load_run("runs/pong")': 'load_run("runs/pong", trust=True)',
    "20_000, 1024, 4": "48, 40, 4",
    "GLAMDynamics(128), channels=(8, 16, 32, 64)": "GLAMDynamics(16), channels=(4, 4, 4, 4)",
}


def shrink(block: str) -> str:
    for text, smaller in SMALLER.items():
        block = block.replace(text, smaller)
    return block


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch, capsys):
    assert all(any(text in block for block in BLOCKS) for text in SMALLER)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    run, read, loop = map(shrink, BLOCKS)
    assert sum(bool(line) for line in run.splitlines()) <= 12
    exec(run, names)
    assert (tmp_path / "runs/pong/result.json").exists()
    assert list((tmp_path / "runs/pong/checkpoints").iterdir())
    assert "| 104 frames, about " in capsys.readouterr().out
    exec(read, names)
    assert names["rollout"]["next", "reward"].shape == (4, 16, 1)
    assert len(names["returns"]) == 1

    assert sum(bool(line) for line in loop.split("FRAMES, WARMUP")[1].splitlines()) <= 40
    exec(loop, names)
    for terms in ("model_terms", "agent_terms"):
        assert all(value.isfinite().all() for value in names[terms].values())
    assert names["frame"] == 48


def test_a_run_from_python_is_resumed_by_python(tmp_path, monkeypatch):
    monkeypatch.setattr("torchrl_glam.runs.run.HydraConfig.initialized", lambda: False)
    with GLAMRun(load_preset("debug", {"run_dir": f"{tmp_path}/run"})) as run:
        assert str(run._stopped()).endswith(f"Start again with: the same Python call, run_dir={tmp_path}/run")


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("paper", {}),
        ("released", {"dynamics": "double_mamba"}),
        ("cpu", {"objective": "ppo", "objective.epochs": 2, "agent.entropy_target": 0.5, "init_parts": ["actor"]}),
        ("debug", {"ablation": "without_g", "world_model.channels": [4, 4, 4, 4], "env.protocol": "standard"}),
        ("small", {"dynamics": "torchrl_glam.modules.MambaDynamics", "objective.kwargs.entropy_coeff": 0.1}),
    ],
)
def test_a_preset_in_python_is_that_of_the_command_line(preset, options):
    names = ("objective.kwargs.",)
    given = [f"{'+' * name.startswith(names)}{name}={value}" for name, value in options.items()]
    assert load_preset(preset, {"run_dir": "unused", **options}) == load(f"preset={preset}", *given)


def test_the_preset_of_this_machine(monkeypatch):
    for there, device, preset in ((False, "auto", "cpu"), (True, "auto", "paper"), (True, "cpu", "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        config = load_preset(options={"device": device})
        assert isinstance(config, GLAMConfig)
        assert config.preset == preset
        assert config.run_dir == "runs/glam"


WRONG = {
    "there is no option env.nme: did you mean env.name": {"env.nme": "ALE/Pong-v5"},
    "seed=x: Value 'x' of type 'str' could not be converted to Integer": {"seed": "x"},
    "seed=-1: give a whole number of at least 0": {"seed": -1},
    "Could not find 'dynamics/glum' Available options in 'dynamics': double_mamba": {"dynamics": "glum"},
    "world_model.dynamics cannot be set by itself: choose a part as a whole, by dynamics=": {
        "world_model.dynamics": SequenceBackbone
    },
    "ablation=g2_l1 means world_model.dynamics.global_layers=2, the options say 1": {
        "ablation": "g2_l1",
        "world_model.dynamics.global_layers": 1,
    },
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_options_are_refused_in_one_line(line):
    with pytest.raises(UsageError) as refused:
        load_preset("debug", WRONG[line])
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
