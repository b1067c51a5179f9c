"""The README's Python and its commands run as they stand, given the objects that its sentences speak of."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, OneHot
from torchrl.envs import GymEnv, RenameTransform, TransformedEnv

from tests.support.paths import ROOT
from tests.support.saved import save_run
from tests.support.trained import SIZES, Trained
from torchrl_glam.modules import GLAMWorldModel, make_actor

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SWAPS = README.split("## Swap one thing")[1].split("\n## ")[0]
COMMANDS = [line for line in SWAPS.splitlines() if line.startswith("python examples/")]
STEP = {"observation": 11, "action": 3, "return_to_go": 1}
PICTURE = {"from_pixels": True, "pixels_only": True}


def make_names(block: str) -> dict[str, object]:
    """What the README's user has at hand."""
    pixels = torch.randint(256, (64, 8, 64, 64, 3), dtype=torch.uint8)
    action = torch.nn.functional.one_hot(torch.randint(6, (64, 8)), 6)
    outcome = {"reward": torch.zeros(2, 8, 1), "terminated": torch.zeros(2, 8, 1, dtype=torch.bool)}
    world_model = GLAMWorldModel(action_size=6).eval()
    env = type("Env", (), {"action_spec": OneHot(6)})
    if "adapt_env" in block:
        env = TransformedEnv(GymEnv("CartPole-v1", **PICTURE), RenameTransform(["pixels"], ["camera"]))
    return {
        "world_model": world_model,
        "env": env,
        "policy": make_actor(world_model.state_size, 256, OneHot(6)),
        "batch": TensorDict({"pixels": pixels[:2], "action": action[:2], "next": outcome}, [2, 8]),
        "pixels": pixels,
        "action": action,
        "action_spec": Bounded(-1, 1, (3,)),
        "windows": TensorDict({key: torch.zeros(2, 8, size) for key, size in STEP.items()}, [2, 8]),
        "tokens": torch.randn(2, 8, 64),
        "token": torch.randn(2, 64),
    }


OUTCOMES = {
    "GLAMModelLoss(": lambda names: sorted(names["terms"].keys())[0] == "kl_dynamics",
    "GLAMImaginedEnv(": lambda names: names["rollout"]["next", "reward"].shape == (64, 16, 1),
    "TransformerDynamics(": lambda names: names["outputs"]["belief"].shape == (2, 8, 256),
    "adapt_env(": lambda names: names["rollout"]["pixels"].shape[1:] == (64, 64, 3),
    "load_run(": lambda names: names["rollout"]["next", "reward"].shape == (8, 16, 1),
    "MambaDMActor(": lambda names: names["loss"].requires_grad and names["policy"].memory == "carried",
    "MambaBlock(": lambda names: names["outputs"].shape == (2, 8, 64) and names["output"].shape == (2, 64),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_snippet_runs(outcome, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    if outcome == "load_run(":
        save_run(tmp_path / "exported/pong", "env.name=ALE/Pong-v5")
    (block,) = [block for block in BLOCKS if outcome in block]
    assert sum(not line.startswith("from") for line in block.strip().splitlines() if line) <= 3
    names = make_names(block)
    exec(block, names)
    assert OUTCOMES[outcome](names)


def test_every_snippet_is_tested():
    assert len(BLOCKS) == len(OUTCOMES)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_swap_on_the_command_line_trains(command):
    """With tiny networks, and on the environment it names."""
    _, script, *options = shlex.split(command)
    assert (ROOT / script).exists()
    if script.endswith("own_env.py"):
        options.append("env.name=CartPole-v1")
    metrics = Trained(*options, sizes=SIZES).update()
    assert all(value.isfinite().all() for value in metrics.values())


def test_the_readme_has_the_two_commands():
    assert "pip install -e . && python examples/glam_atari.py env.name=ALE/Pong-v5\n" in README
    assert 'pip install -e ".[dev]" && pytest -n auto\n' in README
