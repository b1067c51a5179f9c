"""The README's Python and its commands run as they stand, and those of docs/observations.md."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.support.paths import ROOT
from tests.support.saved import save_run
from tests.support.trained import SIZES, Trained

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SWAPS = README.split("## Swap one thing")[1].split("\n## ")[0]
OBSERVATIONS = (ROOT / "docs" / "observations.md").read_text()
COMMANDS = [line for line in (SWAPS + OBSERVATIONS).splitlines() if line.startswith("python examples/")]
OUTCOMES = {
    "make_atari_env(": lambda names: names["batch"]["next", "terminated"].shape == (2, 32, 1),
    "GLAMModelLoss(": lambda names: sorted(names["terms"].keys())[0] == "kl_dynamics",
    "GLAMImaginedEnv(": lambda names: names["rollout"]["next", "reward"].shape == (2, 16, 1),
    "TransformerDynamics(": lambda names: names["outputs"]["belief"].shape == (2, 32, 256),
    "adapt_env(": lambda names: names["rollout"]["pixels"].shape[1:] == (64, 64, 3),
    "MambaBlock(": lambda names: names["outputs"].shape == (2, 8, 64) and names["output"].shape == (2, 64),
    "load_run(": lambda names: names["rollout"]["next", "reward"].shape == (8, 16, 1),
    "MambaDMActor(": lambda names: names["loss"].requires_grad and names["policy"].memory == "carried",
}


def test_the_snippets_run_in_their_order_in_one_session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    save_run(tmp_path / "exported/pong", "env.name=ALE/Pong-v5")  # as the command before it does
    names: dict[str, object] = {}
    for block, outcome in zip(BLOCKS, OUTCOMES, strict=True):
        assert outcome in block
        assert sum(not line.startswith(("from", "import")) for line in block.splitlines() if line) <= 5
        exec(block, names)
        assert OUTCOMES[outcome](names), block


def test_the_snippet_on_encoders_runs():
    (block,) = re.findall(r"```python\n(.*?)```", OBSERVATIONS, re.DOTALL)
    exec(block, {})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_swap_on_the_command_line_trains(command):
    """With tiny networks, and on the environment it names."""
    _, script, *options = shlex.split(command)
    assert (ROOT / script).exists()
    if script.endswith("own_env.py"):
        options += ["env.name=CartPole-v1", "env.observation=pixels"]
    metrics = Trained(*options, sizes=SIZES).update()
    assert all(value.isfinite().all() for value in metrics.values())


def test_the_readme_has_the_two_commands():
    assert "pip install -e . && python examples/glam_atari.py env.name=ALE/Pong-v5\n" in README
    assert 'pip install -e ".[dev]" && pytest -n auto\n' in README
